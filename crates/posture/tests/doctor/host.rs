//! Checks of hosts, and known errors.

use casemate_posture::Tree;
use casemate_posture::doctor::{Finding, Verdict};
use casemate_posture::host;

use crate::tree::{Entry, Files, write};

fn look(files: &Files) -> Vec<Finding> {
    let folder = write(files);
    host::run(&Tree::open(folder.path()).unwrap())
}

fn files(texts: &[(&str, &str)]) -> Files {
    texts.iter().map(|(path, text)| ((*path).to_owned(), Entry::Text((*text).to_owned()))).collect()
}

const INTEL: [(&str, &str); 7] = [
    ("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\n"),
    ("/sys/module/kvm_intel/parameters/tdx", "Y\n"),
    ("/dev/kmsg", "5,0,0,-;Linux version 6\n5,1,0,-;virt/tdx: module initialized\n"),
    ("/dev/sgx_enclave", ""),
    ("/dev/sgx_provision", ""),
    ("/dev/vhost-vsock", ""),
    ("/proc/7/comm", "qgs\n"),
];
const AMD: [(&str, &str); 5] = [
    ("/proc/cpuinfo", "processor\t: 0\nvendor_id\t: AuthenticAMD\n"),
    ("/sys/module/kvm_amd/parameters/sev_snp", "Y\n"),
    ("/dev/sev", ""),
    (
        "/dev/kmsg",
        "5,0,0,-;Linux version 6\n5,1,0,-;SEV-SNP: RMP table physical range [x]\n5,2,0,-;AMD-Vi: x\n",
    ),
    ("/proc/cmdline", "quiet\n"),
];

#[test]
fn a_host_that_is_set_up_passes_and_an_empty_tree_does_not() {
    for (good, of_it) in [(&INTEL[..], 5), (&AMD[..], 4)] {
        let findings = look(&files(good));
        let passed = findings.iter().filter(|f| f.verdict == Verdict::Pass).count();
        let other = findings.iter().filter(|f| f.verdict == Verdict::NotApplicable).count();
        assert_eq!((passed, other), (of_it, 9 - of_it), "{findings:#?}");
    }
    assert!(look(&Files::new()).iter().all(|finding| finding.verdict == Verdict::Unknown));
}

#[test]
fn the_kernel_says_it_in_either_way() {
    for (good, id, log) in [
        (&INTEL[..], "H02.tdx-module", "virt/tdx: TDX-Module initialized"),
        (&AMD[..], "H08.rmp", "SEV-SNP: Segmented RMP base table physical range [x]"),
    ] {
        let mut files = files(good);
        let log = format!("5,0,0,-;Linux version 7\n5,1,0,-;{log}\n");
        files.insert("/dev/kmsg".into(), Entry::Text(log));
        assert_eq!(look(&files).iter().find(|f| f.id == id).unwrap().verdict, Verdict::Pass, "{id}");
    }
}

#[test]
fn each_check_of_a_host_fails_for_its_own_reason() {
    for (good, id, path, text) in [
        (&INTEL[..], "H01.tdx-kvm", "/sys/module/kvm_intel/parameters/tdx", "N\n"),
        (
            &INTEL,
            "H02.tdx-module",
            "/dev/kmsg",
            "5,0,0,-;Linux version 6\n5,1,0,-;virt/tdx: module not loaded\n",
        ),
        (
            &INTEL,
            "H02.tdx-module",
            "/dev/kmsg",
            "5,0,0,-;Linux version 7\n5,1,0,-;virt/tdx: TDX-Module initialization failed (-5)\n",
        ),
        (&INTEL, "H02.tdx-module", "/dev/kmsg", "5,0,0,-;Linux version 6\n"),
        (&INTEL, "H04.qgs", "/proc/7/comm", "bash\n"),
        (&AMD, "H06.snp-kvm", "/sys/module/kvm_amd/parameters/sev_snp", "N\n"),
        (&AMD, "H08.rmp", "/dev/kmsg", "5,0,0,-;Linux version 6\n"),
        (&AMD, "H09.iommu", "/proc/cmdline", "iommu=pt\n"),
    ] {
        let mut files = files(good);
        files.insert(path.into(), Entry::Text(text.into()));
        let findings = look(&files);
        assert_eq!(findings.iter().find(|f| f.id == id).unwrap().verdict, Verdict::Fail, "{id}");
    }
    for (good, id, path) in [
        (&INTEL[..], "H03.sgx", "/dev/sgx_provision"),
        (&INTEL, "H05.vsock", "/dev/vhost-vsock"),
        (&AMD, "H07.sev", "/dev/sev"),
    ] {
        let mut files = files(good);
        files.remove(path);
        assert_eq!(look(&files).iter().find(|f| f.id == id).unwrap().verdict, Verdict::Fail, "{id}");
    }
}

#[test]
fn known_errors_have_a_cause_and_unknown_ones_none() {
    for text in [
        "tdx_att_get_quote: error 0xb033",
        "[QPL] No certificate data for this platform.",
        "outblob is empty",
        "quote is EMPTY",
        "HTTP 429",
        "Too Many Requests",
        "PCCS: SSL certificate problem",
        "PCCS: TLS handshake failed",
        "self-signed certificate in chain",
        "Platform is not registered",
        "cert_chain: null",
    ] {
        assert!(host::explain(text).is_some(), "{text}");
    }
    assert!(host::explain("something else").is_none());
    for known in host::KNOWN_ERRORS {
        let text = known.words.join(" ");
        assert_eq!(host::explain(&text).unwrap().cause, known.cause);
        assert!(known.words.iter().all(|word| *word == word.to_lowercase()));
    }
}
