//! What a registry may cost: every limit in one place, with its unit in its name.

/// Limits on slow, broken or hostile registries. [`Limits::STANDARD`] is what the command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one manifest or index.
    pub manifest_bytes_max: u64,
    /// Bytes of one answer of a token server.
    pub token_bytes_max: u64,
    /// Bytes of an error answer that are looked at.
    pub error_bytes_max: u64,
    /// Redirects of one request.
    pub redirects_max: u32,
    /// Tries of one request, counted anew whenever [`Limits::progress_bytes_min`] of a blob arrived.
    pub attempts_max: u32,
    /// Bytes that count as progress.
    pub progress_bytes_min: u64,
    /// Time for a connection with its TLS session.
    pub connect_ms_max: u64,
    /// Time from a request to the head of its answer.
    pub head_ms_max: u64,
    /// Time between two pieces of an answer.
    pub stall_ms_max: u64,
    /// Slowest transfer that is waited for, on average over one blob.
    pub body_bytes_per_s_min: u64,
    /// Wait before the second try; it doubles with each further one.
    pub retry_ms_min: u64,
    /// Longest wait before a try. A registry that asks for more is given up.
    pub retry_ms_max: u64,
    /// Blobs that are transferred at once.
    pub blobs_at_once_max: usize,
    /// Time for a credential helper.
    pub helper_ms_max: u64,
}

impl Limits {
    /// The limits of the command.
    pub const STANDARD: Self = Self {
        manifest_bytes_max: 4 << 20,
        token_bytes_max: 1 << 20,
        error_bytes_max: 16 << 10,
        redirects_max: 5,
        attempts_max: 5,
        progress_bytes_min: 1 << 20,
        connect_ms_max: 15_000,
        head_ms_max: 30_000,
        stall_ms_max: 30_000,
        body_bytes_per_s_min: 1 << 10,
        retry_ms_min: 500,
        retry_ms_max: 60_000,
        blobs_at_once_max: 3,
        helper_ms_max: 30_000,
    };
}

/// Bytes of the head of an answer.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of an answer.
pub(crate) const HEADERS_MAX: usize = 100;
/// Certificates in a file of trust anchors. Debian's own file has some 140.
pub(crate) const ANCHORS_MAX: usize = 1000;
/// Bytes of Docker's `config.json`.
pub(crate) const DOCKER_CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Bytes of what a credential helper writes.
pub(crate) const HELPER_BYTES_MAX: u64 = 64 << 10;
/// Bytes of one URL.
pub(crate) const URL_BYTES_MAX: usize = 16 << 10;
