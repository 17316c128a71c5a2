//! HCL reports made here, field by field: what is read from where, and what is refused.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

const JSON: &[u8] = b"{\"keys\":[]}";

fn report(report_type: u32, variable: &[u8]) -> Vec<u8> {
    let size = |parts: usize| u32::try_from(parts + variable.len()).unwrap().to_le_bytes();
    let mut out = b"HCLA".to_vec();
    out.extend(2_u32.to_le_bytes());
    out.extend(size(HCL_HEADER_BYTES + HCL_HARDWARE_BYTES + HCL_REQUEST_BYTES));
    out.extend(2_u32.to_le_bytes());
    out.extend([0; 16]);
    let mut hardware: Vec<u8> = (0..1024_u16).map(|at| u8::try_from(at % 251).unwrap()).collect();
    hardware[0] = 0x81;
    hardware.extend([0; 160]);
    out.extend(hardware);
    out.extend(size(HCL_REQUEST_BYTES));
    for field in [1, report_type, 1] {
        out.extend(field.to_le_bytes());
    }
    out.extend(size(0));
    out.extend(variable);
    out
}

/// The report with four bytes at an offset replaced.
fn with(offset: usize, value: u32) -> HclError {
    let mut bytes = report(REPORT_TDX, JSON);
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    parse_hcl_report(&bytes).unwrap_err()
}

/// Where the request data begin.
const REQUEST: usize = HCL_HEADER_BYTES + HCL_HARDWARE_BYTES;

#[test]
fn reads_both_kinds() {
    let bytes = report(REPORT_SNP, JSON);
    let read = parse_hcl_report(&bytes).unwrap();
    assert_eq!(read.version, 2);
    assert_eq!(read.variable_data, JSON);
    let HclHardware::Snp(snp) = read.hardware else { panic!("SNP") };
    assert_eq!(snp[..], bytes[32..32 + 1184]);
    let bytes = report(REPORT_TDX, JSON);
    let HclHardware::Tdx(td) = parse_hcl_report(&bytes).unwrap().hardware else { panic!("TDX") };
    let at = |offset: usize, length: usize| &bytes[32 + offset..32 + offset + length];
    assert_eq!(td.report_data, at(128, 64));
    assert_eq!(td.tee_tcb_svn, at(264, 16));
    assert_eq!(td.mr_seam, at(280, 48));
    assert_eq!(td.mr_signer_seam, at(328, 48));
    assert_eq!(td.seam_attributes, at(376, 8));
    assert_eq!(td.td_attributes, at(512, 8));
    assert_eq!(td.xfam, at(520, 8));
    assert_eq!(td.mr_td, at(528, 48));
    assert_eq!(td.mr_config_id, at(576, 48));
    assert_eq!(td.mr_owner, at(624, 48));
    assert_eq!(td.mr_owner_config, at(672, 48));
    for (index, register) in td.rtmr.into_iter().enumerate() {
        assert_eq!(register, at(720 + 48 * index, 48));
    }
}

#[test]
fn refuses_truncation_at_every_offset() {
    let whole = report(REPORT_TDX, JSON);
    for length in 0..whole.len() {
        let found = parse_hcl_report(&whole[..length]);
        assert!(matches!(found, Err(HclError::Truncated { found, .. }) if found == length), "{length}");
    }
}

#[test]
fn leaves_zero_padding_out_and_refuses_any_other() {
    let mut bytes = report(REPORT_SNP, JSON);
    bytes.resize(2600, 0);
    assert_eq!(parse_hcl_report(&bytes).unwrap().variable_data, JSON);
    bytes[2599] = 1;
    assert_eq!(parse_hcl_report(&bytes), Err(HclError::NotZero { part: "padding" }));
}

#[test]
fn refuses_other_numbers_in_each_field() {
    assert_eq!(with(0, 0), HclError::Signature);
    let field = |field, expected, found| HclError::Field { field, expected, found };
    for found in [0, 3, u32::MAX] {
        assert_eq!(with(4, found), field("version", "1 or 2", found));
    }
    assert_eq!(with(12, 1), field("request type", "2 (AK certificate)", 1));
    assert_eq!(with(16, 1), field("status", "0", 1));
    for offset in [20, 24, 28] {
        let expected = HclError::NotZero { part: "reserved part of the header" };
        assert_eq!(with(offset, 1 << 24), expected);
    }
    assert_eq!(with(REQUEST + 4, 2), field("version of the request data", "1", 2));
    for found in [0, 1, 3, 5] {
        assert_eq!(with(REQUEST + 8, found), field("report type", "2 (SNP) or 4 (TDX)", found));
    }
    for found in [0, 2, 3] {
        assert_eq!(with(REQUEST + 12, found), field("hash of the variable data", "1 (SHA-256)", found));
    }
}

#[test]
fn refuses_lengths_that_do_not_agree() {
    let whole = u32::try_from(report(REPORT_TDX, JSON).len()).unwrap();
    for found in [0, whole - 1, whole + 1, u32::MAX] {
        let expected = HclError::Length { field: "report size", expected: 1236 + JSON.len(), found };
        assert_eq!(with(8, found), expected);
    }
    for found in [0, 30, 32, u32::MAX] {
        let field = "size of the request data";
        assert_eq!(with(REQUEST, found), HclError::Length { field, expected: 20 + JSON.len(), found });
    }
    // One byte less of variable data disagrees with both sizes around it.
    let found = with(REQUEST + 16, 10);
    let field = "size of the request data";
    assert_eq!(found, HclError::Length { field, expected: 30, found: 31 });
    assert_eq!(with(REQUEST + 16, u32::MAX), HclError::VariableData { found: u32::MAX });
}

#[test]
fn takes_variable_data_of_the_largest_size_and_none_larger() {
    assert!(parse_hcl_report(&report(REPORT_SNP, &vec![b' '; HCL_VARIABLE_BYTES_MAX])).is_ok());
    let found = u32::try_from(HCL_VARIABLE_BYTES_MAX + 1).unwrap();
    let over = report(REPORT_SNP, &vec![b' '; HCL_VARIABLE_BYTES_MAX + 1]);
    assert_eq!(parse_hcl_report(&over), Err(HclError::VariableData { found }));
    let mut padded = report(REPORT_SNP, JSON);
    padded.resize(HCL_BYTES_MAX, 0);
    assert!(parse_hcl_report(&padded).is_ok());
    padded.push(0);
    assert_eq!(parse_hcl_report(&padded), Err(HclError::TooLong { found: HCL_BYTES_MAX + 1 }));
}

#[test]
fn refuses_other_hardware_areas() {
    let mut bytes = report(REPORT_TDX, JSON);
    bytes[32] = 0;
    assert_eq!(parse_hcl_report(&bytes), Err(HclError::TdReportType { found: 0 }));
    for offset in [1024, 1183] {
        let mut bytes = report(REPORT_TDX, JSON);
        bytes[32 + offset] = 1;
        let expected = HclError::NotZero { part: "space after the TDREPORT" };
        assert_eq!(parse_hcl_report(&bytes), Err(expected));
    }
}
