//! Where our verdict is not that of a peer, who is right, and why. A test fails on any difference that is not here, and
//! on any row that no case shows.

/// Another verifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// `dcap-qvl` 0.7.1.
    DcapQvl,
    /// `sev` 8.0.0.
    Sev,
}

impl Peer {
    /// Name and version.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DcapQvl => "dcap-qvl 0.7.1",
            Self::Sev => "sev 8.0.0",
        }
    }
}

/// Whose verdict is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Ours.
    Ours,
    /// The peer's.
    Peer,
    /// Each for its purpose.
    Both,
}

impl Right {
    /// In words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer => "the peer",
            Self::Both => "both",
        }
    }
}

/// One kind of case on which verdicts differ.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// Who differs.
    pub peer: Peer,
    /// Names of cases; `*` stands for any text.
    pub case: &'static str,
    /// `accepts`, or the rule that refuses.
    pub ours: &'static str,
    /// `accepts`, or part of its message.
    pub theirs: &'static str,
    /// Who is right.
    pub right: Right,
    /// Why.
    pub why: &'static str,
}

/// Every difference.
pub const DIFFERENCES: &[Difference] = &[
    Difference {
        peer: Peer::DcapQvl,
        case: "vectors/*",
        ours: "accepts",
        theirs: "CrlExpired",
        right: Right::Both,
        why: "the very second of a CRL's nextUpdate: ours counts it in, as RFC 5280 (section 4.1.2.5) does for certificates",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "vectors/*",
        ours: "platform.crl",
        theirs: "accepts",
        right: Right::Ours,
        why: "a second before a CRL's thisUpdate: it does not look at when a CRL begins",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "vectors/sgx/*",
        ours: "tdx.quote",
        theirs: "accepts",
        right: Right::Both,
        why: "a quote of an SGX enclave, which Casemate does not read",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "byte/*/outer-type",
        ours: "tdx.quote",
        theirs: "accepts",
        right: Right::Ours,
        why: "outer certification data of another type than 6, read as if it were 6",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "byte/v4/padding",
        ours: "tdx.quote",
        theirs: "accepts",
        right: Right::Ours,
        why: "bytes after the quote that are not zero: nobody signed them, and another reader may read them",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "byte/*/one-after",
        ours: "tdx.quote",
        theirs: "accepts",
        right: Right::Ours,
        why: "likewise",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "byte/*/text-after",
        ours: "tdx.quote",
        theirs: "accepts",
        right: Right::Ours,
        why: "likewise",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "byte/v4/signature-data-length",
        ours: "tdx.quote",
        theirs: "accepts",
        right: Right::Ours,
        why: "a length of the signature data that is one more than what it holds",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "byte/*/pck-chain",
        ours: "platform.chain",
        theirs: "accepts",
        right: Right::Both,
        why: "unsigned parts of the PEM text, and the root certificate in the quote, which it does not read: it has its own",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "collateral-byte/*-issuer-chain/root",
        ours: "",
        theirs: "accepts",
        right: Right::Both,
        why: "the root certificate of a chain, which it does not read",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "collateral-byte/*-issuer-chain/issuer",
        ours: "",
        theirs: "accepts",
        right: Right::Both,
        why: "unsigned parts of the PEM text; for the PCK CRL, the whole chain, which it does not read: the CRL must be signed by the PCK certificate's own issuer in both",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "collateral/last-second",
        ours: "accepts",
        theirs: "CrlExpired",
        right: Right::Both,
        why: "the very second of a CRL's nextUpdate",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "collateral/*/pck-crl-issuer-chain",
        ours: "platform.crl",
        theirs: "accepts",
        right: Right::Both,
        why: "it does not read that chain",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "field/outer-type/*",
        ours: "tdx.quote",
        theirs: "accepts",
        right: Right::Ours,
        why: "outer certification data of another type than 6",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "field/qe-report-data/upper",
        ours: "tdx.qe-report-data",
        theirs: "accepts",
        right: Right::Ours,
        why: "the upper half of the QE's report data must be zero (Intel, quote format); it compares the lower half",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "field/td-attributes/*",
        ours: "tdx.td-attributes",
        theirs: "accepts",
        right: Right::Both,
        why: "attributes that a policy must allow by name: bits 16, 18 to 22, 62 and PERFMON (63); it takes them as they are",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "field/xfam/*",
        ours: "tdx.xfam",
        theirs: "accepts",
        right: Right::Ours,
        why: "features without their fixed bits, or with bits that the module's specification does not know; it does not look at XFAM",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "lengths/qe-auth-data/*",
        ours: "accepts",
        theirs: "Invalid QE auth data length",
        right: Right::Ours,
        why: "the quote says how long this is (Intel, quote format); it takes 32 bytes alone, which all real quotes have",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "lengths/chain/*",
        ours: "platform.",
        theirs: "accepts",
        right: Right::Both,
        why: "a chain that is not leaf, issuer and root in this order: it builds a path from what it finds; no real quote needs that",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "v5/svn2/*",
        ours: "accepts: OutOfDate",
        theirs: "accepts: UpToDate",
        right: Right::Both,
        why: "a module that is older now than when the domain was launched: it looks whether the present one is known, ours takes the worse of the two",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "v5/type-4/tail-set",
        ours: "tdx.service-td",
        theirs: "accepts",
        right: Right::Ours,
        why: "a report whose extension names service domains: it looks there only where attribute SERVTD_EXT is set, ours always",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "document/tcb-info/date-*",
        ours: "tdx.tcb-info",
        theirs: "accepts",
        right: Right::Both,
        why: "a date in another form than Intel writes",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "document/tcb-info/module-id-lower-case",
        ours: "tdx.module",
        theirs: "accepts",
        right: Right::Both,
        why: "Intel writes TDX_01",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "document/tcb-info/pceid",
        ours: "tdx.fmspc",
        theirs: "accepts",
        right: Right::Ours,
        why: "TCB information for another PCE: Intel's library compares PCEID, it does not",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "document/tcb-info/type",
        ours: "tdx.tcb-info",
        theirs: "accepts",
        right: Right::Ours,
        why: "another tcbType: components then mean something else",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "document/tcb-info/unknown-member-twice",
        ours: "tdx.tcb-info",
        theirs: "accepts",
        right: Right::Ours,
        why: "a member twice: two readers of the same signed bytes may see different values",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "document/tcb-info/version-4",
        ours: "tdx.tcb-info",
        theirs: "accepts",
        right: Right::Ours,
        why: "a version whose meaning nobody knows yet",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "status/*, qe SWHardeningNeeded",
        ours: "accepts",
        theirs: "in QE Identity",
        right: Right::Both,
        why: "a status that Intel does not give a quoting enclave: it refuses, ours lets it make the platform's worse",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "status/*, qe ConfigurationAndSWHardeningNeeded",
        ours: "accepts",
        theirs: "in QE Identity",
        right: Right::Both,
        why: "likewise",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "status/*",
        ours: "accepts",
        theirs: "in TDX module identity",
        right: Right::Both,
        why: "a status that Intel does not give a module: likewise",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "status/*, qe ConfigurationNeeded",
        ours: "accepts",
        theirs: "accepts",
        right: Right::Ours,
        why: "a quoting enclave that needs configuration leaves the platform's status as it is there, and makes it worse here",
    },
    Difference {
        peer: Peer::DcapQvl,
        case: "status/*, qe OutOfDateConfigurationNeeded",
        ours: "accepts",
        theirs: "accepts",
        right: Right::Ours,
        why: "likewise, and out of date",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-vectors/*",
        ours: "platform.chain",
        theirs: "accepts",
        right: Right::Ours,
        why: "a VCEK or VLEK before or after its validity: it looks at no date",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-byte/*-tcb",
        ours: "platform.signature",
        theirs: "accepts",
        right: Right::Ours,
        why: "a changed byte that AMD signed: it verifies its own encoding of the report, not the bytes received, and reserved bytes of TCB versions are lost on the way",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-byte/*/signature-r-upper",
        ours: "snp.report",
        theirs: "accepts",
        right: Right::Ours,
        why: "bytes of the signature field beyond 384 bits",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-byte/*/signature-s-upper",
        ours: "snp.report",
        theirs: "accepts",
        right: Right::Ours,
        why: "likewise",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-byte/*/signature-reserved",
        ours: "snp.report",
        theirs: "accepts",
        right: Right::Ours,
        why: "reserved bytes after the signature that must be zero",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-certificate/*",
        ours: "platform.chain",
        theirs: "accepts",
        right: Right::Ours,
        why: "certificates changed outside what is signed, whose algorithm is then not the signed one (RFC 5280, section 4.1.1.2)",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/after-the-certificates",
        ours: "platform.chain",
        theirs: "accepts",
        right: Right::Ours,
        why: "it looks at no date",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/another-root",
        ours: "platform.roots",
        theirs: "accepts",
        right: Right::Ours,
        why: "it pins no root: whoever calls it must",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/revoked-ask",
        ours: "platform.crl",
        theirs: "accepts",
        right: Right::Ours,
        why: "it reads no CRL",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/chip-id",
        ours: "snp.chip-id",
        theirs: "accepts",
        right: Right::Ours,
        why: "a report of another chip than the VCEK's: it does not compare them",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/key-info/bit-2",
        ours: "platform.chain",
        theirs: "accepts",
        right: Right::Ours,
        why: "SIGNING_KEY says VLEK and the chain is a VCEK's",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/key-info/*",
        ours: "snp.report",
        theirs: "accepts",
        right: Right::Ours,
        why: "SIGNING_KEY of a reserved value",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/reported-tcb",
        ours: "snp.vek-tcb",
        theirs: "accepts",
        right: Right::Ours,
        why: "the key was derived for another TCB than the report's: it does not compare them",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/signature-algorithm",
        ours: "snp.report",
        theirs: "accepts",
        right: Right::Ours,
        why: "another signature algorithm than ECDSA P-384 with SHA-384",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/signed",
        ours: "accepts",
        theirs: "Skipped bytes",
        right: Right::Both,
        why: "reserved bytes set in what AMD signed: it refuses what it does not know, ours verifies the signature over them and reads nothing from them",
    },
    Difference {
        peer: Peer::Sev,
        case: "snp-field/version/2",
        ours: "accepts",
        theirs: "Skipped bytes",
        right: Right::Both,
        why: "version 2 with CPUID bytes, which are reserved there: likewise",
    },
];
