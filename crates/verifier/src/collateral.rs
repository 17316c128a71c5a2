//! Endorsements as bytes: what a bundle holds and what verification reads. Untrusted until verified.

/// Endorsements for the platforms that evidence may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collateral {
    /// For TDX.
    pub tdx: Option<TdxCollateral>,
    /// For SEV-SNP.
    pub snp: Option<SnpCollateral>,
}

/// Intel's endorsements for one platform family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxCollateral {
    /// DER, issued by the root.
    pub root_ca_crl: Vec<u8>,
    /// DER, issued by the PCK CA.
    pub pck_crl: Vec<u8>,
    /// PEM chain of the PCK CRL's issuer.
    pub pck_crl_chain: Vec<u8>,
    /// JSON as served: `{"tcbInfo":{..},"signature":".."}`.
    pub tcb_info: Vec<u8>,
    /// PEM chain.
    pub tcb_info_chain: Vec<u8>,
    /// JSON as served: `{"enclaveIdentity":{..},"signature":".."}`.
    pub qe_identity: Vec<u8>,
    /// PEM chain.
    pub qe_identity_chain: Vec<u8>,
}

/// AMD's endorsements for one product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnpCollateral {
    /// ARK, DER.
    pub ark: Vec<u8>,
    /// ASK or ASVK, DER.
    pub ask: Vec<u8>,
    /// CRL issued by the ARK, DER.
    pub crl: Vec<u8>,
    /// VCEK or VLEK, DER, where the evidence does not carry it.
    pub vek: Option<Vec<u8>>,
}
