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
        (
            &["-drive", "if=none,file=null-co://,format=raw,bps=9,bps_rd=9"],
            "bps/iops/max total values and read/write values cannot be used at the same time",
        ),
        (
            &["-drive", "if=none,file=null-co://,format=raw,throttling.bps-total=x"],
            "Parameter 'throttling.bps-total' expects a number",
        ),
        (
            &["-drive", "if=none,file=null-co://,format=raw,group=g,throttling.group=g"],
            "'throttling.group' and its alias 'group' can't be used at the same time",
        ),
        (&["-object", "secret,id=s"], "Either 'file' or 'data' must be provided"),
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
        (
            &["-pidfile", "/nowhere/pid"],
            "cannot create PID file: Could not create '/nowhere/pid': No such file or directory",
        ),
        (&["-serial", "file:/nowhere/s"], "Could not open '/nowhere/s': No such file or directory"),
        (&["-chardev", "socket,id=c,fd=99"], "descriptor 99 was not handed over"),
        (&["-m", "1E"], "Cannot allocate memory"),
        (&["-m", "512x"], "-m 512x: "),
        (
            &["-object", "iothread,id=i", "-device", "virtio-blk-pci,drive=i"],
            "can't find value 'i'",
        ),
        (
            &[
                "-object",
                "rng-builtin,id=i",
                "-drive",
                "if=none,id=d,file=null-co://",
                "-drive",
                "if=none,id=z,format=raw,file=/dev/null",
                "-device",
                "virtio-blk-pci,drive=d,iothread=i",
            ],
            "'i' is no iothread",
        ),
        (
            &["-smbios", "type=77"],
            "-smbios type=77: Don't know how to build fields for SMBIOS type 77",
        ),
        (&["-smbios", "type=1,serail=x"], "-smbios type=1,serail=x: Invalid parameter 'serail'"),
        (&["-M", "virt,acpi=maybe"], "Parameter 'acpi' does not accept value 'maybe'"),
        (&["-overcommit", "mem-lock=foo"], "expects one of 'on', 'off', 'on-fault'"),
        (&["-overcommit", "foo=1"], "-overcommit foo=1: Invalid parameter 'foo'"),
        (&["-msg", "timestamp=on"], "not supported yet: -msg timestamp=on"),
        (&["-icount", "shift=3"], "not supported yet: -icount"),
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

/// A qcow2 image of 1 MiB without data: header, refcount table and block, L1 table.
fn qcow2() -> Vec<u8> {
    let mut image = vec![0; 4 << 16];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"QFI\xfb\0\0\0\x03");
    put(20, &16u32.to_be_bytes());
    put(24, &(1u64 << 20).to_be_bytes());
    put(36, &1u32.to_be_bytes());
    put(40, &(3u64 << 16).to_be_bytes());
    put(48, &(1u64 << 16).to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(96, &[4u32.to_be_bytes(), 104u32.to_be_bytes()].concat());
    put(1 << 16, &(2u64 << 16).to_be_bytes());
    put(2 << 16, &[0, 1, 0, 1, 0, 1, 0, 1]);
    image
}

/// Images that cannot be used, and those that others use, stay as they are.
#[test]
fn images_that_cannot_be_used_are_left_alone() {
    let folder = folder("images");
    let whole = qcow2();
    let with = |at: usize, bytes: &[u8]| {
        let mut image = whole.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        image
    };
    let backed = with(8, &[&[0, 0, 0, 0, 0, 0, 1, 0][..], &7u32.to_be_bytes()].concat());
    let backed = [&backed[..256], b"nowhere", &backed[263..]].concat();
    for (name, image, says) in [
        ("version", with(4, &[0, 0, 0, 9]), "version"),
        ("clusters", with(20, &[0, 0, 0, 60]), "cluster_bits"),
        ("l1_at", with(40, &[0x7f; 8]), "l1_table_offset"),
        ("l1_size", with(36, &[0xff; 4]), "l1_size"),
        ("features", with(72, &[0, 0, 0, 0, 0, 0, 0x10, 0]), "features"),
        ("cut", whole[..50].to_vec(), "cut"),
        ("empty", Vec::new(), "Image is not in qcow2 format"),
        ("text", b"no image at all".repeat(100), "Image is not in qcow2 format"),
        ("backed", backed, "Could not open backing file: Could not open "),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, &image).unwrap();
        let drive = format!("file={},format=qcow2", path.display());
        refused(&["-M", "virt", "-bios", "none", "-drive", &drive], says);
        assert_eq!(std::fs::read(&path).unwrap(), image, "{name}");
    }
    // A program that runs cannot be written, whoever asks.
    let busy = format!("file={},format=raw", env!("CARGO_BIN_EXE_tinamou"));
    refused(&["-M", "virt", "-bios", "none", "-drive", &busy], "Text file busy");
    let itself = format!("file={},format=raw", folder.display());
    refused(&["-M", "virt", "-bios", "none", "-drive", &itself], "to be a regular file");
}

#[test]
fn an_image_is_used_by_one_machine_at_a_time() {
    let path = folder("locked").join("disk.qcow2");
    let image = qcow2();
    std::fs::write(&path, &image).unwrap();
    let drive = format!("file={},format=qcow2", path.display());
    let mut q = emulator::Emulator::monitor(&["-bios", "none", "-S", "-drive", &drive]);
    for (more, says) in [
        ("", "Failed to get \"write\" lock"),
        (",readonly=on", "Failed to get shared \"write\" lock"),
        (",snapshot=on", "Failed to get shared \"write\" lock"),
    ] {
        refused(&["-M", "virt", "-bios", "none", "-drive", &format!("{drive}{more}")], says);
    }
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
    let read_only = format!("{drive},readonly=on,if=none,id=d");
    let mut q = emulator::Emulator::monitor(&["-bios", "none", "-S", "-drive", &read_only]);
    let both = ["-bios", "none", "-S", "-drive", &read_only];
    let mut second = emulator::Emulator::monitor(&both);
    assert!(second.says("info block").contains("(qcow2, read-only)"));
    for q in [&mut q, &mut second] {
        q.send(b"quit\n");
    }
    assert_eq!((q.wait(), second.wait()), (Some(0), Some(0)));
    assert_eq!(std::fs::read(&path).unwrap(), image);
}

/// What `-global` gives reaches devices, parts of the board and the processors.
#[test]
fn globals_have_an_effect_or_are_complained_about() {
    let args = [
        "-bios",
        "none",
        "-S",
        "-global",
        "virtio-mmio.force-legacy=off",
        "-global",
        "virtio-rng-device.event_idx=off",
        "-device",
        "virtio-rng-device",
        "-global",
        "rv64-riscv-cpu.v=on",
        "-object",
        "iothread,id=io",
        "-drive",
        "if=none,id=d,file=null-co://",
        "-device",
        "virtio-blk-pci,drive=d,iothread=io",
    ];
    let mut q = emulator::Emulator::monitor(&args);
    let tree = q.says("info qtree");
    for part in ["event_idx = false", "force-legacy = false", "iothread = \"io\""] {
        assert!(tree.contains(part), "{part}\n{tree}");
    }
    // The version of the slot's interface.
    assert_eq!(q.says("xp/1xw 0x10001004"), "0000000010001004: 0x00000002\n");
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
    for (global, says) in [
        ("virtio-mmio.force-legacy=x", "can't apply global virtio-mmio.force-legacy=x: "),
        (
            "virtio-mmio.foo=1",
            "can't apply global virtio-mmio.foo=1: Property 'virtio-mmio.foo' not found",
        ),
        ("rv64-riscv-cpu.foo=1", "Property 'rv64-riscv-cpu.foo' not found"),
    ] {
        refused(&["-M", "virt", "-bios", "none", "-global", global], says);
    }
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
