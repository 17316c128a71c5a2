//! Intel's signed JSON: TCB information (version 3, TDX) and the quoting enclave's identity (TD_QE).
//!
//! Shapes: Intel SGX and TDX Provisioning Certification Service API version 4. The signature covers the exact bytes
//! of the inner object, so that object is kept as the slice received.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::hex_text::Hex;
use crate::time::UnixTime;

/// `{"tcbInfo":{..},"signature":".."}` as served.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignedTcbInfo<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    pub(crate) body: &'a RawValue,
    pub(crate) signature: Hex<64>,
}

/// `{"enclaveIdentity":{..},"signature":".."}` as served.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignedQeIdentity<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    pub(crate) body: &'a RawValue,
    pub(crate) signature: Hex<64>,
}

/// TCB information of one platform family. Members that are not read here may be there; none may be there twice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TcbInfo {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) issue_date: String,
    pub(crate) next_update: String,
    pub(crate) fmspc: Hex<6>,
    pub(crate) pce_id: Hex<2>,
    pub(crate) tcb_type: u32,
    pub(crate) tcb_evaluation_data_number: u32,
    pub(crate) tdx_module: TdxModule,
    #[serde(default)]
    pub(crate) tdx_module_identities: Vec<TdxModuleIdentity>,
    pub(crate) tcb_levels: Vec<TcbLevel>,
}

/// What a TDX module without an identity of its own must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TdxModule {
    pub(crate) mrsigner: Hex<48>,
    pub(crate) attributes: Hex<8>,
    pub(crate) attributes_mask: Hex<8>,
}

/// What a TDX module of one major version must be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TdxModuleIdentity {
    pub(crate) id: String,
    pub(crate) mrsigner: Hex<48>,
    pub(crate) attributes: Hex<8>,
    pub(crate) attributes_mask: Hex<8>,
    pub(crate) tcb_levels: Vec<IsvLevel>,
}

/// Status of a platform at or above these security versions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TcbLevel {
    pub(crate) tcb: Tcb,
    pub(crate) tcb_date: UnixTime,
    pub(crate) tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    pub(crate) advisory_ids: Vec<String>,
}

/// Security versions, in the order in which Intel sorts levels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Tcb {
    #[serde(rename = "sgxtcbcomponents")]
    pub(crate) sgx: [Component; 16],
    pub(crate) pcesvn: u16,
    #[serde(rename = "tdxtcbcomponents")]
    pub(crate) tdx: [Component; 16],
}

/// One component's security version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) struct Component {
    pub(crate) svn: u8,
}

/// Status of an enclave or module at or above a security version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IsvLevel {
    pub(crate) tcb: IsvTcb,
    pub(crate) tcb_date: UnixTime,
    pub(crate) tcb_status: TcbStatus,
    #[serde(default, rename = "advisoryIDs")]
    pub(crate) advisory_ids: Vec<String>,
}

/// A security version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct IsvTcb {
    pub(crate) isvsvn: u16,
}

/// Identity of the quoting enclave.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct QeIdentity {
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) issue_date: String,
    pub(crate) next_update: String,
    pub(crate) tcb_evaluation_data_number: u32,
    pub(crate) miscselect: Hex<4>,
    pub(crate) miscselect_mask: Hex<4>,
    pub(crate) attributes: Hex<16>,
    pub(crate) attributes_mask: Hex<16>,
    pub(crate) mrsigner: Hex<32>,
    pub(crate) isvprodid: u16,
    pub(crate) tcb_levels: Vec<IsvLevel>,
}

/// Status of a platform's trusted computing base, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TcbStatus {
    /// Nothing known against it.
    UpToDate,
    /// Software must be hardened.
    #[serde(rename = "SWHardeningNeeded")]
    SwHardeningNeeded,
    /// Its configuration must change.
    ConfigurationNeeded,
    /// Both.
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    ConfigurationAndSwHardeningNeeded,
    /// Firmware or microcode must be updated.
    OutOfDate,
    /// That, and its configuration must change.
    OutOfDateConfigurationNeeded,
    /// The platform was updated; the trust domain must be launched again.
    #[serde(rename = "TDRelaunchAdvised")]
    TdRelaunchAdvised,
    /// That, and its configuration must change.
    #[serde(rename = "TDRelaunchAdvisedConfigurationNeeded")]
    TdRelaunchAdvisedConfigurationNeeded,
    /// Not to be trusted.
    Revoked,
}

impl TcbStatus {
    /// All, from best to worst.
    pub const ALL: [Self; 9] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::TdRelaunchAdvised,
        Self::TdRelaunchAdvisedConfigurationNeeded,
        Self::Revoked,
    ];

    /// Intel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
