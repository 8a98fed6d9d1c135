//! The human monitor of the built binary. Answers compared with those of QEMU 10.0.2.

mod emulator;

use emulator::{Emulator, firmware, folder, run};

#[test]
fn a_spike_board_is_told_too() {
    let args = ["-M", "spike", "-display", "none", "-serial", "null", "-monitor", "stdio", "-S"];
    let mut q = Emulator::start(&args);
    q.until("(qemu) ");
    assert!(q.says("info qtree").contains("  dev: riscv.aclint.swi, id \"\"\n"));
    let tree = q.says("info mtree");
    let line = "    0000000001000000-000000000100000f (prio 1, i/o): riscv.htif.uart\n";
    assert!(tree.contains(line), "{tree}");
    assert_eq!(q.says("info tlb"), "unknown command: 'info tlb'\n");
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}

/// What lies in a window is shown below it: ports of a PCI function.
#[test]
fn the_map_is_a_tree() {
    let mut q = Emulator::monitor(&["-bios", "none", "-S", "-device", "virtio-rng-pci"]);
    let tree = q.says("info mtree");
    assert!(tree.contains("\n    0000000003000000-000000000300ffff (prio "), "{tree}");
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}

#[test]
fn a_machine_stops_goes_on_and_resets() {
    let mut q = Emulator::monitor(&["-bios", "none", "-S", "-smp", "2"]);
    for (command, answer) in [
        ("info status", "VM status: paused (prelaunch)\n"),
        ("stop", ""),
        ("info status", "VM status: paused (prelaunch)\n"),
        ("cont", ""),
        ("info status", "VM status: running\n"),
        ("system_powerdown", ""),
        ("stop", ""),
        ("info status", "VM status: paused\n"),
        ("system_reset", ""),
        ("info status", "VM status: paused (prelaunch)\n"),
        ("info memory_size_summary", "base memory: 134217728\n"),
        (
            "x/2i 0x1000",
            "0x00001000:  00000297          auipc                   t0,0x0\n0x00001004:  02828613          addi                    a2,t0,40\n",
        ),
        ("xp/2xw 0x10001000", "0000000010001000: 0x74726976 0x00000001\n"),
        ("xp/2xw 0x5000000", "0000000005000000: Cannot access memory\n"),
        ("p/x $pc+4", "0x1004\n"),
        ("info mem", "No translation or protection\n"),
        ("info chardev", "serial0: filename=null\ncompat_monitor0: filename=stdio\n"),
        ("log nonsense", "Error: unknown log item 'nonsense'\n"),
        ("cpu 1", ""),
        ("info block nothing", "Device 'nothing' not found\n"),
    ] {
        let said = q.says(command);
        // The original has a parallel port on a virtual console besides.
        assert_eq!(said.replace("parallel0: filename=vc\n", ""), answer, "{command}");
    }
    let cpus = q.says("info cpus");
    assert!(cpus.starts_with("  CPU #0: thread_id=") && cpus.contains("\n* CPU #1: "), "{cpus}");
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}

#[test]
fn what_is_in_a_machine_is_told() {
    let args =
        ["-bios", "none", "-S", "-device", "virtio-rng-device", "-device", "virtio-rng-pci,id=r"];
    let mut q = Emulator::monitor(&args);
    for (command, parts) in [
        ("info mtree", &["    0000000010001000-00000000100011ff (prio 0, i/o): virtio-mmio\n"][..]),
        (
            "info mtree",
            &["    0000000080000000-0000000087ffffff (prio 0, ram): riscv_virt_board.ram\n"],
        ),
        (
            "info mtree -f",
            &["FlatView #0\n", "  0000000022000000-0000000023ffffff (prio 0, romd): virt.flash1\n"],
        ),
        (
            "info roms",
            &[
                "addr=0000000000001000 size=0x000058 mem=rom name=\"mrom.reset\"\n",
                " mem=ram name=\"fdt\"\n",
            ],
        ),
        (
            "info qtree -b",
            &[
                "  dev: virtio-mmio, id \"\"\n    bus: virtio-mmio-bus.7\n      type virtio-mmio-bus\n      dev: virtio-rng-device, id \"\"\n",
            ],
        ),
        ("info qtree", &["      dev: virtio-rng-pci, id \"r\"\n", "    num-sources = 96 (0x60)\n"]),
        (
            "info pci",
            &["  Bus  0, device   1, function 0:\n    Class 0255: PCI device 1af4:1005\n"],
        ),
        (
            "info virtio",
            &[
                "/machine/peripheral-anon/device[0] [virtio-rng]\n",
                "/machine/peripheral/r/virtio-backend [virtio-rng]\n",
            ],
        ),
        (
            "info ramblock",
            &["    riscv_virt_board.ram    4 KiB  0x0000000000000000 0x0000000008000000"],
        ),
        ("info qdm", &["Storage devices:\nname \"scsi-cd\", bus SCSI"]),
        ("info jit", &["one-insn-per-tb: off\n", "\nTLB misses          0\n"]),
    ] {
        let said = q.says(command);
        for part in parts {
            assert!(said.contains(part), "{command}: {part}\n{said}");
        }
    }
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}

/// Sets `satp` to an Sv39 table with two mappings, then loops.
#[test]
fn page_tables_are_listed_and_followed() {
    let code = [0x0000_0317, 0x0203_3283, 0x1802_9073, 0x0000_006f];
    let pte = |gpa: u64, flags: u64| gpa >> 12 << 10 | flags;
    let root = 0x8000_1000;
    let data = [
        (32, 8 << 60 | root >> 12),
        (0x1000 + 8 * 2, pte(0x8000_0000, 0xef)),
        (0x1000 + 8 * 511, pte(0x4000_0000, 0x5b)),
    ];
    let path = folder("page_tables").join("sv39.bin");
    std::fs::write(&path, firmware(&code, &data)).unwrap();
    let mut q = Emulator::monitor(&["-bios", path.to_str().unwrap()]);
    let mut said = q.says("info mem");
    for _ in 0..100_000 {
        if !said.starts_with("No ") {
            break;
        }
        said = q.says("info mem");
    }
    let expected = "vaddr            paddr            size             attr\n\
                    ---------------- ---------------- ---------------- -------\n\
                    0000000080000000 0000000080000000 0000000040000000 rwx-gad\n\
                    ffffffffc0000000 0000000040000000 0000000040000000 r-xu-a-\n";
    assert_eq!(said, expected);
    let jit = q.says("info jit");
    assert!(!jit.contains("TB count            0\n"), "{jit}");
    let saved = folder("memsave").join("code");
    assert_eq!(q.says(&format!("pmemsave 0x80000000 16 \"{}\"", saved.display())), "");
    let bytes: Vec<u8> = code.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
    assert_eq!(std::fs::read(saved).unwrap(), bytes);
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}

#[test]
fn one_terminal_serves_serial_port_and_monitor() {
    let args = ["-M", "virt", "-bios", "none", "-nographic", "-S"];
    let ended = run(&args, b"\x01h\x01cinfo status\nquit\n");
    assert!(ended.out.contains("C-a x    exit emulator"), "{ended:?}");
    assert!(ended.out.contains("VM status: paused (prelaunch)\r\n"), "{ended:?}");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = run(&args, b"\x01x");
    assert!(ended.out.contains("QEMU: Terminated"), "{ended:?}");
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn signals_end_it_in_order() {
    let mut q = emulator::command(&[
        "-M", "virt", "-display", "none", "-bios", "none", "-serial", "null", "-monitor", "stdio",
    ])
    .spawn()
    .unwrap();
    // It is up when the monitor greets.
    let mut byte = [0];
    std::io::Read::read_exact(q.stdout.as_mut().unwrap(), &mut byte).unwrap();
    let sent = std::process::Command::new("kill").arg(q.id().to_string()).status().unwrap();
    assert!(sent.success());
    let output = q.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.starts_with("qemu-system-riscv64: terminating on signal 15 from pid "), "{err}");
    assert_eq!(output.status.code(), Some(0));
}

/// The board's test device: 0x5555 powers off, 0x7777 resets.
#[test]
fn a_guest_that_powers_off_is_kept_with_no_shutdown() {
    // lui t0, 0x100; lui t1, 0x5; addi t1, t1, 0x555; sw t1, 0(t0); j .
    let code = [0x0010_02b7, 0x0000_5337, 0x5553_0313, 0x0062_a023, 0x0000_006f];
    let path = folder("power_off").join("off.bin");
    std::fs::write(&path, firmware(&code, &[])).unwrap();
    let bios = ["-bios", path.to_str().unwrap()];
    let mut q = Emulator::monitor(&[&bios[..], &["-no-shutdown"]].concat());
    for _ in 0..100_000 {
        if q.says("info status") == "VM status: paused (shutdown)\n" {
            break;
        }
    }
    assert_eq!(q.says("cont"), "Error: Resetting the Virtual Machine is required\n");
    assert_eq!(q.says("system_reset"), "");
    assert_eq!(q.says("info status"), "VM status: paused (prelaunch)\n");
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
    let fixed = ["-M", "virt", "-display", "none", "-serial", "null", "-monitor", "none"];
    assert_eq!(run(&[&fixed[..], &bios].concat(), b"").code, Some(0));
}

#[test]
fn with_no_reboot_a_reset_is_the_end() {
    let mut q = Emulator::monitor(&["-bios", "none", "-S", "-no-reboot"]);
    q.send(b"system_reset\n");
    assert_eq!(q.wait(), Some(0));
}

/// A bank of flash with `snapshot=on`, written by the test protocol: the image changes when told.
#[test]
fn snapshots_are_written_back_when_told() {
    use std::io::{BufRead, BufReader, Write};
    let folder = folder("commit");
    let (image, socket) = (folder.join("flash.img"), folder.join("qtest"));
    let mut contents = vec![0xff; 64];
    std::fs::write(&image, &contents).unwrap();
    std::fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(32 << 20).unwrap();
    let start = || {
        let mut bytes = [0; 64];
        let mut file = std::fs::File::open(&image).unwrap();
        std::io::Read::read_exact(&mut file, &mut bytes).unwrap();
        bytes.to_vec()
    };
    let drive = format!("if=pflash,unit=1,format=raw,snapshot=on,id=f,file={}", image.display());
    let serve = format!("unix:{},server=on,wait=off", socket.display());
    let mut q = Emulator::start(&[
        "-M",
        "virt",
        "-nographic",
        "-accel",
        "qtest",
        "-qtest",
        &serve,
        "-qtest-log",
        "none",
        "-drive",
        &drive,
        "-drive",
        "if=none,id=e",
        "-drive",
        "if=none,id=n,file=null-co://",
    ]);
    q.send(b"\x01c");
    q.until("(qemu) ");
    let mut test = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let mut replies = BufReader::new(test.try_clone().unwrap());
    // Commands of CFI flash, to both chips of a word: program, read.
    let mut program = |at: u64, value: u32| {
        for word in [0x0040_0040, value, 0x00ff_00ff] {
            writeln!(test, "writel {at:#x} {word:#x}").unwrap();
            let mut reply = String::new();
            replies.read_line(&mut reply).unwrap();
            assert_eq!(reply, "OK\n");
        }
    };
    program(0x2200_0000, 0x1234_5678);
    assert_eq!(start(), contents);
    assert_eq!(q.says("commit f"), "");
    contents[..4].copy_from_slice(&0x1234_5678u32.to_le_bytes());
    assert_eq!(start(), contents);
    program(0x2200_0010, 0x9abc_def0);
    assert_eq!(start(), contents);
    q.send(b"\x01s");
    assert_eq!(q.says("info name"), "");
    q.says("info status");
    contents[16..20].copy_from_slice(&0x9abc_def0u32.to_le_bytes());
    assert_eq!(start(), contents);
    let counted = q.says("info blockstats");
    let line = counted.lines().find(|line| line.starts_with("f: rd_bytes=")).unwrap();
    assert!(!line.contains(" wr_operations=0 "), "{counted}");
    for (command, says) in [
        ("commit all", ""),
        ("commit nothing", "Device 'nothing' not found\n"),
        ("commit e", "Device 'e' has no medium\n"),
        ("commit n", "'commit' error for 'n': Operation not supported\n"),
    ] {
        assert_eq!(q.says(command), says);
    }
    q.send(b"quit\n");
    assert_eq!(q.wait(), Some(0));
}
