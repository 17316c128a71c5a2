//! `casemate-launcher`: confines one compartment, drops everything, executes the agent.
//!
//! What it is: a small static program with one thread, started by the warden with a control socket as its
//! standard input, over which everything else comes. What it is not: a command for people; it takes no argument.
//! Who trusts it: the warden, which checks from outside what it did.

fn main() {
    casemate_sys::compartment::launch()
}
