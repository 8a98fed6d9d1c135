//! Bad input: one line that names program and option, exit code 1, nothing on standard output.

mod emulator;

use emulator::{NAME, folder, run};

/// Arguments, and what the first line says after the program's name.
fn refused(args: &[&str], says: &str) {
    let quiet = ["-display", "none", "-serial", "null", "-monitor", "none"];
    let ended = run(&[&quiet[..], args].concat(), b"");
    let first = ended.err.lines().next().unwrap_or_default();
    let text = first.strip_prefix(NAME).and_then(|rest| rest.strip_prefix(": "));
    assert!(text.is_some_and(|text| text.contains(says)), "{args:?}: {says}\n{}", ended.err);
    assert!(!ended.err.contains("os error"), "{args:?}\n{}", ended.err);
    assert_eq!(ended.code, Some(1), "{args:?}\n{}", ended.err);
    assert_eq!(ended.out, "", "{args:?}");
}

#[test]
fn what_does_not_exist_is_named() {
    let with = |more: &[&'static str]| [&["-M", "virt", "-bios", "none"], more].concat();
    refused(&["-M", "vitr"], "vitr");
    refused(&["-M", "virt", "-bios", "/nowhere/fw"], "/nowhere/fw");
    for (args, says) in [
        (&["-nonsense"][..], "-nonsense"),
        (&["-cpu", "rv46"], "rv46"),
        (&["-cpu", "rv64,nonsense=1"], "nonsense"),
        (&["-device", "virtio-bkl-pci"], "virtio-bkl-pci"),
        (&["-device", "virtio-rng-pci,nonsense=1"], "nonsense"),
        (
            &["-device", "virtio-rng-pci,bus=pcie.9"],
            "-device virtio-rng-pci,bus=pcie.9: Bus 'pcie.9' not found",
        ),
        (&["-device", "virtio-rng-pci,addr=77"], "-device virtio-rng-pci,addr=77: "),
        (&["-device", "virtio-blk-device,drive=d"], "can't find value 'd'"),
        (&["-device", "virtio-net-device,netdev=n"], "'n'"),
        (&["-device", "virtio-rng-device,rng=r"], "'r'"),
        (&["-kernel", "/nowhere/Image"], "-kernel /nowhere/Image: No such file or directory"),
        (&["-initrd", "/nowhere/rd", "-kernel", "/dev/null"], "/nowhere/rd"),
        (&["-dtb", "/nowhere/dtb"], "-dtb /nowhere/dtb: No such file or directory"),
        (&["-drive", "file=/nowhere/disk,format=raw"], "/nowhere/disk"),
        (&["-D", "/nowhere/log", "-d", "int"], "-D /nowhere/log: No such file or directory"),
        (
            &["-object", "rng-random,id=r,filename=/nowhere/r"],
            "Could not open '/nowhere/r': No such file or directory",
        ),
        (
            &["-qtest-log", "/nowhere/log", "-qtest", "null"],
            "-qtest-log /nowhere/log: No such file or directory",
        ),
        (&["-smp", "0"], "CPU topology"),
        (&["-smp", "cpus=3,sockets=2"], "CPU topology"),
        (&["-accel", "kmv"], "kmv"),
        (&["-qmp", "null"], "not supported yet: the protocol for programs (QMP)"),
    ] {
        refused(&with(args), says);
    }
}

#[test]
fn files_that_do_not_fit_are_named() {
    let folder = folder("misfits");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let large = file("large", &vec![0x13; 9 << 20]);
    let other = file("other.elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0");
    let empty = file("empty", b"");
    let cut = file("cut.qcow2", b"QFI\xfb\0\0\0\x03");
    let base = ["-M", "virt", "-bios", "none"];
    for (args, says) in [
        (&["-m", "8M", "-kernel", &large][..], large.as_str()),
        (&["-kernel", &other], &other),
        (&["-kernel", &empty], &empty),
        (&["-dtb", &cut], &cut),
        (&["-drive", &format!("file={cut},format=qcow2")], "cut.qcow2"),
        (
            &["-m", "1000000T"],
            "cannot set up guest memory 'riscv_virt_board.ram': Cannot allocate memory",
        ),
    ] {
        refused(&[&base[..], args].concat(), says);
    }
    assert_eq!(std::fs::read(&cut).unwrap(), b"QFI\xfb\0\0\0\x03");
}

/// Devices find what the machine lends them, by id.
#[test]
fn devices_get_their_back_ends() {
    let args = [
        "-M",
        "virt",
        "-bios",
        "none",
        "-S",
        "-chardev",
        "null,id=c",
        "-netdev",
        "user,id=n",
        "-object",
        "rng-random,id=r,filename=/dev/urandom",
        "-object",
        "rng-builtin,id=b",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtconsole,chardev=c",
        "-device",
        "virtio-net-device,netdev=n",
        "-device",
        "virtio-rng-pci,rng=r",
        "-device",
        "virtio-rng-device,rng=b",
    ];
    let mut q = emulator::Emulator::monitor(&args);
    let tree = q.says("info qtree");
    for part in ["chardev = \"c\"", "netdev = \"n\"", "rng = \"r\"", "rng = \"b\""] {
        assert!(tree.contains(part), "{part}\n{tree}");
    }
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}
