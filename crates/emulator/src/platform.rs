//! The pretended platform: launch measurements, the runtime register, and the signer.

use casemate_canon::Sha384;
use casemate_testkit::{DevPki, PkiError, SnpBody, TdBody, Tee};

use crate::launch::{self, LaunchMeasurements};

/// A running, pretended confidential VM.
pub(crate) struct Machine {
    pki: DevPki,
    launch: LaunchMeasurements,
    composition: Sha384,
    rtmr3: Sha384,
}

/// What a platform answers to a report request.
pub(crate) struct Answer {
    pub(crate) outblob: Vec<u8>,
    pub(crate) auxblob: Vec<u8>,
}

/// A file under `measurements/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    Mrconfigid,
    Mrowner,
    Mrownerconfig,
    Mrtd,
    Rtmr0,
    Rtmr1,
    Rtmr2,
    Rtmr3,
}

impl Register {
    /// In the order in which they are listed.
    pub(crate) const ALL: [Self; 8] = [
        Self::Mrconfigid,
        Self::Mrowner,
        Self::Mrownerconfig,
        Self::Mrtd,
        Self::Rtmr0,
        Self::Rtmr1,
        Self::Rtmr2,
        Self::Rtmr3,
    ];

    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Mrconfigid => "mrconfigid",
            Self::Mrowner => "mrowner",
            Self::Mrownerconfig => "mrownerconfig",
            Self::Mrtd => "mrtd:sha384",
            Self::Rtmr0 => "rtmr0:sha384",
            Self::Rtmr1 => "rtmr1:sha384",
            Self::Rtmr2 => "rtmr2:sha384",
            Self::Rtmr3 => "rtmr3:sha384",
        }
    }

    /// Firmware and boot loader own the others, and they are done. Linux would let root extend RTMR0 to 2 as well: the
    /// emulator is stricter, so that a box that touches them fails here and not only under a policy.
    pub(crate) fn is_extensible(self) -> bool {
        self == Self::Rtmr3
    }
}

impl Machine {
    pub(crate) fn new(pki: DevPki, launch: LaunchMeasurements, composition: Sha384) -> Self {
        Self { pki, launch, composition, rtmr3: Sha384::ZERO }
    }

    pub(crate) fn tee(&self) -> Tee {
        self.pki.tee()
    }

    pub(crate) fn register(&self, register: Register) -> Sha384 {
        match register {
            Register::Mrconfigid => self.composition,
            Register::Mrowner | Register::Mrownerconfig => Sha384::ZERO,
            Register::Mrtd => self.launch.mrtd(),
            Register::Rtmr0 => self.launch.rtmr0(),
            Register::Rtmr1 => self.launch.rtmr1(),
            Register::Rtmr2 => self.launch.rtmr2(),
            Register::Rtmr3 => self.rtmr3,
        }
    }

    pub(crate) fn extend_rtmr3(&mut self, digest: &Sha384) {
        self.rtmr3 = self.rtmr3.extend(digest);
    }

    /// Signs a report; `vmpl` matters for SNP only.
    pub(crate) fn report(&self, report_data: [u8; 64], vmpl: u32) -> Result<Answer, PkiError> {
        match self.tee() {
            Tee::Tdx => {
                let rtmr = [self.launch.rtmr0(), self.launch.rtmr1(), self.launch.rtmr2(), self.rtmr3];
                let body = TdBody {
                    mrtd: self.launch.mrtd().0,
                    mrconfigid: self.composition.0,
                    rtmr: rtmr.map(|register| register.0),
                    report_data,
                    ..TdBody::new()
                };
                Ok(Answer { outblob: self.pki.tdx_quote(&body)?, auxblob: vec![] })
            }
            Tee::Snp => {
                let body = SnpBody {
                    vmpl,
                    measurement: self.launch.snp_measurement().0,
                    host_data: launch::host_data(&self.composition).0,
                    report_data,
                    ..SnpBody::new()
                };
                let outblob = self.pki.snp_report(&body)?;
                Ok(Answer { outblob, auxblob: self.pki.snp_certificate_table()? })
            }
        }
    }
}
