//! Levels, modules and their combination.

use super::super::tcb_info::{Component, IsvTcb, Tcb, TdxModule, TdxModuleIdentity};
use super::TcbStatus::{
    ConfigurationAndSwHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded, Revoked,
    SwHardeningNeeded, TdRelaunchAdvised, TdRelaunchAdvisedConfigurationNeeded, UpToDate,
};
use super::*;
use crate::hex_text::Hex;

const DATE: UnixTime = UnixTime(1_700_000_000);
const PCK: PckTcb = PckTcb { components: [5; 16], pcesvn: 10 };

fn level(sgx: u8, pcesvn: u16, tdx: u8, status: TcbStatus) -> TcbLevel {
    let tcb = Tcb { sgx: [Component { svn: sgx }; 16], pcesvn, tdx: [Component { svn: tdx }; 16] };
    TcbLevel { tcb, tcb_date: DATE, tcb_status: status, advisory_ids: vec![format!("{status}")] }
}

fn isv(svn: u16, status: TcbStatus) -> IsvLevel {
    IsvLevel { tcb: IsvTcb { isvsvn: svn }, tcb_date: DATE, tcb_status: status, advisory_ids: vec![] }
}

fn info(levels: Vec<TcbLevel>, modules: Vec<(&str, Vec<IsvLevel>)>) -> TcbInfo {
    let zero = |id: &str, tcb_levels| TdxModuleIdentity {
        id: id.to_owned(),
        mrsigner: Hex([0; 48]),
        attributes: Hex([0; 8]),
        attributes_mask: Hex([0xff; 8]),
        tcb_levels,
    };
    TcbInfo {
        id: "TDX".into(),
        version: 3,
        issue_date: String::new(),
        next_update: String::new(),
        fmspc: Hex([0; 6]),
        pce_id: Hex([0; 2]),
        tcb_type: 0,
        tcb_evaluation_data_number: 1,
        tdx_module: TdxModule {
            mrsigner: Hex([0; 48]),
            attributes: Hex([0; 8]),
            attributes_mask: Hex([0xff; 8]),
        },
        tdx_module_identities: modules.into_iter().map(|(id, levels)| zero(id, levels)).collect(),
        tcb_levels: levels,
    }
}

fn status(info: &TcbInfo, svn: [u8; 16]) -> Result<TcbStatus, TcbError> {
    platform_verdict(info, &PCK, &svn).map(|verdict| verdict.status)
}

/// Module 0 (no identity), every component `svn`.
fn without_module(svn: u8) -> [u8; 16] {
    let mut all = [svn; 16];
    all[1] = 0;
    all
}

#[test]
fn takes_the_highest_level_whatever_the_order_in_the_file() {
    let mut levels =
        vec![level(3, 10, 0, OutOfDate), level(5, 10, 0, UpToDate), level(4, 10, 0, SwHardeningNeeded)];
    for _ in 0..levels.len() {
        levels.rotate_left(1);
        assert_eq!(status(&info(levels.clone(), vec![]), without_module(0)), Ok(UpToDate));
    }
}

#[test]
fn every_component_must_reach_its_level() {
    let only = |level| info(vec![level], vec![]);
    assert_eq!(status(&only(level(5, 10, 0, UpToDate)), without_module(0)), Ok(UpToDate));
    assert_eq!(status(&only(level(6, 10, 0, UpToDate)), without_module(0)), Err(TcbError::NotSupported));
    assert_eq!(status(&only(level(5, 11, 0, UpToDate)), without_module(0)), Err(TcbError::NotSupported));
    for index in 0..16 {
        let mut high = level(5, 10, 0, UpToDate);
        high.tcb.sgx[index].svn = 6;
        assert_eq!(status(&only(high), without_module(0)), Err(TcbError::NotSupported), "sgx {index}");
        let mut high = level(5, 10, 0, UpToDate);
        high.tcb.tdx[index].svn = 1;
        assert_eq!(status(&only(high), [0; 16]), Err(TcbError::NotSupported), "tdx {index}");
    }
}

#[test]
fn a_module_with_an_identity_is_judged_by_its_own_levels() {
    let module = |levels| info(vec![level(5, 10, 0, UpToDate)], vec![("TDX_01", levels)]);
    let with = |svn: u8| {
        let mut all = [0; 16];
        all[0] = svn;
        all[1] = 1;
        all
    };
    let levels = vec![isv(2, Revoked), isv(6, UpToDate), isv(4, OutOfDate)];
    assert_eq!(status(&module(levels.clone()), with(7)), Ok(UpToDate));
    assert_eq!(status(&module(levels.clone()), with(5)), Ok(OutOfDate));
    assert_eq!(status(&module(levels.clone()), with(3)), Ok(Revoked));
    assert_eq!(status(&module(levels), with(1)), Err(TcbError::NoModuleLevel { version: 1, svn: 1 }));
    assert_eq!(
        status(&info(vec![level(5, 10, 0, UpToDate)], vec![]), with(1)),
        Err(TcbError::NoModule { version: 1 })
    );
    // The first two components are the module's: the platform's level does not look at them, and at the others it does.
    let mut high = level(5, 10, 0, UpToDate);
    high.tcb.tdx[0].svn = 0xff;
    high.tcb.tdx[1].svn = 0xff;
    let found = status(&info(vec![high.clone()], vec![("TDX_01", vec![isv(0, UpToDate)])]), with(0));
    assert_eq!(found, Ok(UpToDate));
    high.tcb.tdx[2].svn = 1;
    let found = status(&info(vec![high], vec![("TDX_01", vec![isv(0, UpToDate)])]), with(0));
    assert_eq!(found, Err(TcbError::NotSupported));
}

#[test]
fn a_part_can_only_make_a_platform_worse() {
    let combined = |platform, part| {
        let verdict = |status, advisory: &str| TcbVerdict {
            status,
            date: DATE,
            advisories: [advisory.to_owned()].into(),
        };
        let both = converge(verdict(platform, "a"), verdict(part, "b"));
        assert_eq!(both.advisories.len(), 2);
        both.status
    };
    for (platform, part, expected) in [
        (UpToDate, UpToDate, UpToDate),
        (SwHardeningNeeded, UpToDate, SwHardeningNeeded),
        (UpToDate, OutOfDate, OutOfDate),
        (SwHardeningNeeded, OutOfDate, OutOfDate),
        (ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
        (ConfigurationAndSwHardeningNeeded, OutOfDate, OutOfDateConfigurationNeeded),
        (OutOfDate, OutOfDate, OutOfDate),
        (OutOfDateConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
        (UpToDate, Revoked, Revoked),
        (Revoked, UpToDate, Revoked),
    ] {
        assert_eq!(combined(platform, part), expected, "{platform} with {part}");
    }
    for platform in TcbStatus::ALL {
        for part in TcbStatus::ALL {
            assert!(combined(platform, part) >= platform.max(UpToDate));
            assert!(part == UpToDate || combined(platform, part) != UpToDate);
        }
    }
}

#[test]
fn an_updated_platform_advises_a_relaunch_and_a_revoked_one_stays_revoked() {
    let verdict = |status| TcbVerdict { status, date: DATE, advisories: Vec::new() };
    let after = |launched, now| relaunch(verdict(launched), verdict(now)).status;
    assert_eq!(after(UpToDate, UpToDate), UpToDate);
    assert_eq!(after(OutOfDate, UpToDate), TdRelaunchAdvised);
    assert_eq!(
        after(OutOfDateConfigurationNeeded, ConfigurationNeeded),
        TdRelaunchAdvisedConfigurationNeeded
    );
    assert_eq!(after(OutOfDate, OutOfDate), OutOfDate);
    assert_eq!(after(UpToDate, Revoked), Revoked);
    assert_eq!(after(Revoked, UpToDate), Revoked);
}

#[test]
fn every_status_has_intels_name_and_no_other_is_read() {
    for status in TcbStatus::ALL {
        let read: TcbStatus = serde_json::from_value(status.name().into()).unwrap();
        assert_eq!(read, status);
    }
    for bad in ["Splendid", "uptodate", ""] {
        assert!(serde_json::from_value::<TcbStatus>(bad.into()).is_err(), "{bad}");
    }
}

#[test]
fn a_relaunch_is_advised_only_where_it_would_mend_everything() {
    let verdict = |status, day: u64, advisory: &str| TcbVerdict {
        status,
        date: UnixTime(day),
        advisories: vec![advisory.to_owned()],
    };
    let with_qe =
        |status, day, advisory| converge(verdict(status, day, advisory), verdict(OutOfDate, 5, "qe"));
    let both = relaunch(with_qe(OutOfDate, 3, "launch"), with_qe(UpToDate, 9, "now"));
    assert_eq!(both.status, OutOfDate);
    assert_eq!(both.advisories, ["launch", "now", "qe"]);
    assert_eq!(both.date, UnixTime(3));
    let both = relaunch(verdict(OutOfDateConfigurationNeeded, 3, "a"), verdict(UpToDate, 9, "b"));
    assert_eq!(both.status, TdRelaunchAdvisedConfigurationNeeded);
    let older_now = relaunch(verdict(UpToDate, 9, "a"), verdict(OutOfDate, 3, "b"));
    assert_eq!((older_now.status, older_now.date), (OutOfDate, UnixTime(3)));
    assert_eq!(older_now.advisories, ["a", "b"]);
}
