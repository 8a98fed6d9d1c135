//! The test protocol of the built binary. Replies compared with those of QEMU 10.0.2.

mod emulator;

use emulator::Emulator;

const ARGS: [&str; 16] = [
    "-M",
    "virt",
    "-display",
    "none",
    "-bios",
    "none",
    "-serial",
    "null",
    "-monitor",
    "none",
    "-accel",
    "qtest",
    "-qtest",
    "stdio",
    "-qtest-log",
    "none",
];

/// Commands and all they make the machine say.
fn check(q: &mut Emulator, script: &[(&str, &[&str])]) {
    for (command, expected) in script {
        q.send(format!("{command}\n").as_bytes());
        for line in *expected {
            assert_eq!(q.line(), *line, "{command}");
        }
    }
}

#[test]
fn devices_are_driven_without_a_processor() {
    let mut q = Emulator::start(&[&ARGS[..], &["-device", "virtio-rng-device"]].concat());
    check(
        &mut q,
        &[
            ("endianness", &["OK little"]),
            // RAM and what is not there.
            ("writel 0x80001000 0x12345678", &["OK"]),
            ("readw 0x80001000", &["OK 0x0000000000005678"]),
            ("read 0x80001000 4", &["OK 0x78563412"]),
            ("readl 0x5000000", &["OK 0x0000000000000000"]),
            // A virtio slot: magic, version, device.
            ("readl 0x10008000", &["OK 0x0000000074726976"]),
            ("readl 0x10008008", &["OK 0x0000000000000004"]),
            ("readl 0x10007008", &["OK 0x0000000000000000"]),
            // The UART: scratch register, line status.
            ("writeb 0x10000007 0x5a", &["OK"]),
            ("readb 0x10000007", &["OK 0x000000000000005a"]),
            ("readb 0x10000005", &["OK 0x0000000000000060"]),
            // Time passes only when told: mtime at 10 MHz.
            ("readl 0x200bff8", &["OK 0x0000000000000000"]),
            ("clock_step 1000000", &["OK 1000000"]),
            ("readl 0x200bff8", &["OK 0x0000000000002710"]),
            ("clock_set 2000000", &["OK 2000000"]),
            ("nonsense", &["FAIL Unknown command 'nonsense'"]),
        ],
    );
}

#[test]
fn interrupts_are_heard_at_the_controller() {
    let mut q = Emulator::start(&ARGS);
    check(
        &mut q,
        &[
            ("irq_intercept_in /machine/unattached/device[2]", &["OK"]),
            // The UART's transmitter is empty: its interrupt comes when enabled.
            ("writeb 0x10000001 2", &["IRQ raise 10", "OK"]),
            ("readb 0x10000002", &["IRQ lower 10", "OK 0x0000000000000002"]),
            ("irq_intercept_in /machine/nothing", &["FAIL IRQ intercept already enabled"]),
        ],
    );
    let mut q = Emulator::start(&ARGS);
    check(
        &mut q,
        &[
            ("irq_intercept_out /machine/plic", &["OK"]),
            // Source 10: priority 1, enabled for the first machine context.
            ("writel 0xc000028 1", &["OK"]),
            ("writel 0xc002000 0x400", &["OK"]),
            ("set_irq_in /machine/plic unnamed-gpio-in 10 1", &["IRQ raise 1", "OK"]),
            ("readl 0xc200004", &["IRQ lower 1", "OK 0x000000000000000a"]),
            ("set_irq_in /machine/nothing unnamed-gpio-in 10 1", &["FAIL Unknown device"]),
        ],
    );
    let mut q = Emulator::start(&ARGS);
    check(
        &mut q,
        &[
            ("irq_intercept_out_named /machine/serial0 sysbus-irq", &["OK"]),
            ("writeb 0x10000001 2", &["IRQ raise 0", "OK"]),
            ("readl 0xc001000", &["OK 0x0000000000000000"]),
        ],
    );
}

/// What the controllers of the other interrupt architecture hear and say.
#[test]
fn interrupts_are_heard_at_aplic_and_imsic() {
    let with = |aia: &'static str| {
        let mut args = ARGS.to_vec();
        args[1] = aia;
        Emulator::start(&args)
    };
    check(
        &mut with("virt,aia=aplic"),
        &[
            ("irq_intercept_in /machine/unattached/device[2]", &["OK"]),
            ("writeb 0x10000001 2", &["IRQ raise 10", "OK"]),
        ],
    );
    check(
        &mut with("virt,aia=aplic"),
        &[
            ("irq_intercept_out /machine/aplic_m", &["OK"]),
            // Source 10 of the machine's domain: level high, enabled, to hart 0 with priority 1.
            ("writel 0xc000028 6", &["OK"]),
            ("writel 0xc001edc 10", &["OK"]),
            ("writel 0xc003028 1", &["OK"]),
            ("writel 0xc004000 1", &["OK"]),
            ("writel 0xc000000 0x100", &["OK"]),
            ("set_irq_in /machine/aplic_m unnamed-gpio-in 10 1", &["IRQ raise 0", "OK"]),
        ],
    );
    check(
        &mut with("virt,aia=aplic-imsic"),
        &[
            ("irq_intercept_in /machine/unattached/device[4]", &["OK"]),
            ("writeb 0x10000001 2", &["IRQ raise 10", "OK"]),
        ],
    );
    check(
        &mut with("virt,aia=aplic-imsic"),
        &[
            ("irq_intercept_out_named /machine/serial0 sysbus-irq", &["OK"]),
            ("writeb 0x10000001 2", &["IRQ raise 0", "OK"]),
        ],
    );
}
