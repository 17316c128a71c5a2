//! What an image may cost: every limit in one place, with its unit in its name.

/// Limits on hostile or mistaken input. [`Limits::STANDARD`] is what the store uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Layers of one image.
    pub layers_max: usize,
    /// Indexes on the way to a manifest.
    pub indexes_max: usize,
    /// Bytes of one manifest, configuration or index.
    pub document_bytes_max: u64,
    /// Bytes of one layer after decompression.
    pub layer_bytes_max: u64,
    /// Bytes of one layer after decompression for each byte before it.
    pub expansion_ratio_max: u64,
    /// Bytes after decompression that the ratio does not look at.
    pub expansion_free_bytes: u64,
    /// Files of an archive that may be parts of an image.
    pub archive_names_max: usize,
    /// Bytes that a zstd frame may ask a decoder to hold.
    pub window_bytes_max: u64,
    /// Tar entries, and directories that none of them names, over all layers.
    pub entries_max: u64,
    /// Bytes of all paths of all layers: they are held in memory.
    pub names_bytes_max: u64,
    /// Bytes of one file.
    pub file_bytes_max: u64,
    /// Bytes of all files of all layers.
    pub unpacked_bytes_max: u64,
    /// Bytes of one path.
    pub path_bytes_max: usize,
    /// Components of one path.
    pub path_components_max: usize,
    /// Bytes of one extended header (long name, pax records).
    pub extension_bytes_max: u64,
    /// Largest user or group id: a compartment maps 65536 of them.
    pub id_max: u64,
}

impl Limits {
    /// Bytes that may come out of a compressed stream of `stored_bytes`.
    pub(crate) fn expanded_bytes_max(&self, stored_bytes: u64) -> u64 {
        self.expansion_ratio_max
            .saturating_mul(stored_bytes)
            .saturating_add(self.expansion_free_bytes)
            .min(self.layer_bytes_max)
    }

    /// The limits of a store.
    pub const STANDARD: Self = Self {
        layers_max: 128,
        indexes_max: 4,
        document_bytes_max: 4 << 20,
        layer_bytes_max: 16 << 30,
        expansion_ratio_max: 200,
        expansion_free_bytes: 64 << 20,
        archive_names_max: 20_000,
        window_bytes_max: 32 << 20,
        entries_max: 500_000,
        names_bytes_max: 128 << 20,
        file_bytes_max: 4 << 30,
        unpacked_bytes_max: 16 << 30,
        path_bytes_max: 4095,
        path_components_max: 128,
        extension_bytes_max: 64 << 10,
        id_max: 65_535,
    };
}

/// Longest wait for another user of the store, in milliseconds.
pub(crate) const LOCK_WAIT_MS_MAX: u64 = 120_000;
/// Bytes of the names and inodes of one root file system: each agent has a copy in memory.
pub(crate) const METADATA_BYTES_MAX: u64 = 256 << 20;
/// Longest run of `mkfs.erofs`, in milliseconds.
pub(crate) const MKFS_MS_MAX: u64 = 600_000;
/// Bytes of the record of one build: its accounts come from two files of at most 1 MiB each.
pub(crate) const BUILD_RECORD_BYTES_MAX: u64 = 16 << 20;
/// Images that one store lists at most.
pub(crate) const IMAGES_MAX: usize = 10_000;
