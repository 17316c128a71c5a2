//! The two reports inside a TDX quote: the TD report body and the quoting enclave's SGX report.
//!
//! Layouts: Intel TDX DCAP quoting library API, "TD Quote Body Descriptor" (TD report 1.0: 584 bytes, 1.5: 648
//! bytes) and "Enclave Report Body" (384 bytes); `sgx_report2_body_v1_5_ex_t` in `sgx_quote_5.h` of Intel's DCAP (TD
//! report 1.5 extended: 885 bytes). All integers are little-endian.

use crate::cursor::{Cursor, Truncated};

/// Bytes of a TD report body, version 1.0.
pub const TD_REPORT_10_BYTES: usize = 584;
/// Bytes of a TD report body, version 1.5.
pub const TD_REPORT_15_BYTES: usize = 648;
/// Bytes of a TD report body, version 1.5 extended.
pub const TD_REPORT_15_EX_BYTES: usize = 885;
/// Bytes of an SGX report body.
pub const QE_REPORT_BYTES: usize = 384;

/// What the TDX module says of the trust domain and of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TdReport<'a> {
    /// Security versions of the TDX module (0: update, 1: module) and platform.
    pub tee_tcb_svn: &'a [u8; 16],
    /// Measurement of the TDX module.
    pub mr_seam: &'a [u8; 48],
    /// Signer of the TDX module; zero for Intel.
    pub mr_signer_seam: &'a [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: &'a [u8; 8],
    /// Attributes of the trust domain.
    pub td_attributes: &'a [u8; 8],
    /// Extended features that it may use.
    pub xfam: &'a [u8; 8],
    /// Measurement of its initial contents.
    pub mr_td: &'a [u8; 48],
    /// Software-defined identity of its configuration, set at launch.
    pub mr_config_id: &'a [u8; 48],
    /// Software-defined identity of its owner, set at launch.
    pub mr_owner: &'a [u8; 48],
    /// Software-defined identity of its owner's configuration, set at launch.
    pub mr_owner_config: &'a [u8; 48],
    /// Run-time measurement registers.
    pub rtmr: [&'a [u8; 48]; 4],
    /// What the caller had bound in.
    pub report_data: &'a [u8; 64],
    /// The part that only version 1.5 has.
    pub version_15: Option<TdReport15<'a>>,
}

/// Fields that version 1.5 adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TdReport15<'a> {
    /// Security versions as they are now, after updates that preserve trust domains.
    pub tee_tcb_svn2: &'a [u8; 16],
    /// Measurement of service trust domains bound to this one; zero for none.
    pub mr_service_td: &'a [u8; 48],
    /// The part that only version 1.5 extended has.
    pub extended: Option<TdReport15Ex<'a>>,
}

/// Fields that version 1.5 extended adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TdReport15Ex<'a> {
    /// Which virtual machine of a partitioned trust domain: 0 is the first level.
    pub vm_id: u8,
    /// Identity of this instance; a relaunch changes it.
    pub td_id: &'a [u8; 32],
    /// Digest over what is known of devices.
    pub device_info: &'a [u8; 48],
    /// Service trust domains bound at creation.
    pub initial_service_td: &'a [u8; 48],
    /// Their attributes.
    pub initial_service_td_attributes: &'a [u8; 8],
    /// Security versions of the CPU at creation.
    pub initial_cpu_svn: &'a [u8; 16],
    /// Security versions of module and platform at creation.
    pub initial_tee_tcb_svn: &'a [u8; 16],
    /// Platform family at creation.
    pub initial_fmspc: &'a [u8; 12],
    /// Service trust domains bound now.
    pub current_service_td: &'a [u8; 48],
    /// Their attributes.
    pub current_service_td_attributes: &'a [u8; 8],
}

/// What the SGX hardware says of the quoting enclave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct QeReport<'a> {
    /// The 384 bytes that the PCK key signed.
    pub signed: &'a [u8],
    /// Security versions of the CPU.
    pub cpu_svn: &'a [u8; 16],
    /// State-save features.
    pub misc_select: u32,
    /// Enclave attributes.
    pub attributes: &'a [u8; 16],
    /// Measurement of the enclave.
    pub mr_enclave: &'a [u8; 32],
    /// Its signer.
    pub mr_signer: &'a [u8; 32],
    /// Product number given by its signer.
    pub isv_prod_id: u16,
    /// Security version given by its signer.
    pub isv_svn: u16,
    /// What the enclave had bound in.
    pub report_data: &'a [u8; 64],
}

impl<'a> TdReport<'a> {
    /// Reads version 1.0 fields, then those of later versions where there are bytes for them. The caller knows the size.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Truncated> {
        let mut at = Cursor::new(bytes);
        Ok(Self {
            tee_tcb_svn: at.array()?,
            mr_seam: at.array()?,
            mr_signer_seam: at.array()?,
            seam_attributes: at.array()?,
            td_attributes: at.array()?,
            xfam: at.array()?,
            mr_td: at.array()?,
            mr_config_id: at.array()?,
            mr_owner: at.array()?,
            mr_owner_config: at.array()?,
            rtmr: [at.array()?, at.array()?, at.array()?, at.array()?],
            report_data: at.array()?,
            version_15: if at.rest().is_empty() { None } else { Some(TdReport15::read(&mut at)?) },
        })
    }
}

impl<'a> TdReport15<'a> {
    fn read(at: &mut Cursor<'a>) -> Result<Self, Truncated> {
        Ok(Self {
            tee_tcb_svn2: at.array()?,
            mr_service_td: at.array()?,
            extended: if at.rest().is_empty() { None } else { Some(TdReport15Ex::read(at)?) },
        })
    }
}

impl<'a> TdReport15Ex<'a> {
    fn read(at: &mut Cursor<'a>) -> Result<Self, Truncated> {
        Ok(Self {
            vm_id: at.u8()?,
            td_id: at.array()?,
            device_info: at.array()?,
            initial_service_td: at.array()?,
            initial_service_td_attributes: at.array()?,
            initial_cpu_svn: at.array()?,
            initial_tee_tcb_svn: at.array()?,
            initial_fmspc: at.array()?,
            current_service_td: at.array()?,
            current_service_td_attributes: at.array()?,
        })
    }
}

impl<'a> QeReport<'a> {
    pub(crate) fn read(signed: &'a [u8; QE_REPORT_BYTES]) -> Result<Self, Truncated> {
        let mut at = Cursor::new(signed);
        let cpu_svn = at.array()?;
        let misc_select = at.u32()?;
        at.array::<28>()?;
        let attributes = at.array()?;
        let mr_enclave = at.array()?;
        at.array::<32>()?;
        let mr_signer = at.array()?;
        at.array::<96>()?;
        let isv_prod_id = at.u16()?;
        let isv_svn = at.u16()?;
        at.array::<60>()?;
        let report_data = at.array()?;
        Ok(Self {
            signed,
            cpu_svn,
            misc_select,
            attributes,
            mr_enclave,
            mr_signer,
            isv_prod_id,
            isv_svn,
            report_data,
        })
    }
}
