//! The vendors' services that hand out endorsements, and caches of them that others run.
//!
//! What it is: requests to Intel's Provisioning Certification Service (or a PCCS, which speaks the same) and to AMD's Key
//! Distribution Service, at an address that the user gave. What it is not: trust: TLS only keeps the answers from being
//! changed on the way; whether they hold is for the verifier. There is no default address: nothing is asked that the user
//! did not name. Who trusts it: nobody.

mod http;
mod kds;
mod pcs;

pub use http::{
    Anchors, CONNECT_S_MAX, FetchError, PlainHttp, REQUEST_S_MAX, RESPONSE_BYTES_MAX, Service, TlsFailure,
};
pub use kds::{SnpKey, SnpSigner, fetch_snp_chain, fetch_snp_crl, fetch_vcek};
pub use pcs::{fetch_crl_at, fetch_pck_crl, fetch_qe_identity, fetch_root_ca_crl, fetch_tcb_info};
