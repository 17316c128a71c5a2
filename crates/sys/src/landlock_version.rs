//! The version of Landlock that the running kernel has.

/// Asks the kernel (landlock_create_ruleset(2), `LANDLOCK_CREATE_RULESET_VERSION`); none where it has no Landlock, or where
/// it was switched off at the start.
#[must_use]
pub fn landlock_version() -> Option<u32> {
    const VERSION_FLAG: libc::c_uint = 1;
    // SAFETY: with this flag the call takes a null pointer and size zero, reads no memory, and makes no descriptor
    // (uapi/linux/landlock.h); the values are constants here.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION_FLAG,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}
