//! Guest boots: what a machine must say and answer, told as stories.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use crate::emulator::Emulator;
use crate::expect::Session;
use crate::guests;
use crate::packages;
use crate::tools::{self, At, Result, Scratch};

/// How long a story waits for one thing: a slow, busy host needs minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// The same for a first boot's configuration, under a minute on an idle host.
const LONG_PATIENCE: Duration = Duration::from_secs(1500);

/// One line of a story.
enum Step {
    /// Wait until the machine says this.
    Wait(&'static str),
    /// The same, after a long piece of work.
    WaitLong(&'static str),
    /// Type this.
    Type(&'static str),
    /// The emulator ends with this exit code.
    Exit(i32),
}

use Step::{Exit, Type, Wait, WaitLong};

/// One start of the emulator.
struct Run {
    arguments: &'static [&'static str],
    /// Words for the kernel, after the console; empty: no kernel of ours.
    append: &'static str,
    story: &'static [Step],
}

/// One test: its runs share a fresh copy of the guest's disk.
struct Boot {
    name: &'static str,
    /// The guest whose disk it is.
    image: &'static str,
    runs: &'static [Run],
}

/// The busybox guest, whose kernel all others use.
const SMALL: &str = "riscv64";

const SELFTEST: &[Step] =
    &[Wait("GUEST-READY riscv64"), Wait("GUEST-SELFTEST PASS"), Wait("GUEST-DONE 0"), Exit(0)];

const TWO_LIVES: &[Step] = &[Wait("GUEST-READY"), Wait("GUEST-READY"), Type("\u{1}x"), Exit(0)];

const FSCK: &[Step] = &[Wait("GUEST-FSCK clean"), Exit(0)];

/// A disk is written in a first life, read in a second, and clean afterwards.
macro_rules! disk {
    ($name:literal, $($argument:literal),*) => {
        Boot {
            name: $name,
            image: SMALL,
            runs: &[
                Run {
                    arguments: &[$($argument),*],
                    append: "guest.disk=vda guest.root guest.run=disktest",
                    story: &[Wait("GUEST-INFO boot 1"), Wait("GUEST-SELFTEST PASS"), Exit(0)],
                },
                Run {
                    arguments: &[$($argument),*],
                    append: "guest.disk=vda guest.root guest.run=disktest",
                    story: &[Wait("GUEST-TEST survived ok"), Wait("GUEST-SELFTEST PASS"), Exit(0)],
                },
                Run {
                    arguments: &[$($argument),*],
                    append: "guest.disk=vda guest.run=fsck",
                    story: FSCK,
                },
            ],
        }
    };
}

/// EDK2 in flash starts the kernel; it says what the kernel finds the machine by. The disk is a PCI
/// function, so that its interrupts come as the firmware's tables say.
macro_rules! efi {
    ($name:literal, $machine:literal, $says:literal) => {
        Boot {
            name: $name,
            image: "riscv64-efi",
            runs: &[Run {
                arguments: &[
                    "-M",
                    $machine,
                    "-m",
                    "1G",
                    "-smp",
                    "2",
                    "-drive",
                    "if=pflash,unit=0,format=raw,readonly=on,file={image}/code.fd",
                    "-drive",
                    "if=pflash,unit=1,format=raw,snapshot=on,file={image}/vars.fd",
                    "-drive",
                    "if=none,id=d,snapshot=on,file={guest}/root.qcow2",
                    "-device",
                    "virtio-blk-pci,drive=d,vectors=0",
                ],
                append: "guest.disk=vda guest.run=fsck",
                story: &[Wait($says), Wait("GUEST-READY"), Wait("GUEST-FSCK clean"), Exit(0)],
            }],
        }
    };
}

/// A boot through the self-test.
macro_rules! selftest {
    ($name:literal $(, $argument:literal)*) => {
        Boot { name: $name, image: SMALL, runs: &[Run { arguments: &[$($argument),*], append: "guest.run=selftest", story: SELFTEST }] }
    };
}

const BOOTS: &[Boot] = &[
    // the longest first, so that the others run beside it
    DEBIAN,
    selftest!("cpus-1"),
    selftest!("cpus-2", "-smp", "2"),
    selftest!("cpus-4", "-smp", "4"),
    selftest!("one-thread", "-smp", "2", "-accel", "tcg,thread=single"),
    selftest!("aplic", "-M", "virt,aia=aplic"),
    selftest!("aclint", "-M", "virt,aclint=on", "-smp", "2"),
    disk!(
        "disk-imsic",
        "-M",
        "virt,aia=aplic-imsic,aia-guests=3",
        "-smp",
        "2",
        "-drive",
        "file={disk},if=none,id=d",
        "-device",
        "virtio-blk-pci,drive=d"
    ),
    Boot {
        name: "cpus-8-6g",
        image: SMALL,
        runs: &[Run {
            arguments: &["-smp", "8", "-m", "6G"],
            append: "guest.run=none",
            story: &[Wait("GUEST-READY"), Wait("GUEST-DONE 0"), Exit(0)],
        }],
    },
    selftest!("imsic", "-M", "virt,aia=aplic-imsic", "-cpu", "max", "-smp", "2"),
    Boot {
        name: "shell",
        image: SMALL,
        runs: &[Run {
            arguments: &[],
            append: "guest.run=shell",
            story: &[
                Wait("GUEST-READY"),
                Wait("# "),
                Type("echo $((6 * 7)) is right\n"),
                Wait("42 is right"),
                Wait("# "),
                Type("echo be''gun; sleep 1000\n"),
                Wait("begun"),
                Type("\u{3}"),
                Wait("# "),
                Type("echo rea''dy; cat > /tmp/note\n"),
                Wait("ready"),
                Type("first line\n"),
                Wait("first line"),
                Type("\u{4}"),
                Wait("# "),
                Type("wc -c /tmp/note\n"),
                Wait("11 /tmp/note"),
                Type("exit\n"),
                Wait("GUEST-DONE 0"),
                Exit(0),
            ],
        }],
    },
    efi!("efi-acpi", "virt", "ACPI: Interpreter enabled"),
    efi!("efi-imsic", "virt,aia=aplic-imsic", "ACPI: Interpreter enabled"),
    efi!("efi-tree", "virt,acpi=off", "Machine model: riscv-virtio,qemu"),
    Boot {
        name: "one-insn",
        image: SMALL,
        runs: &[Run {
            arguments: &["-accel", "tcg,one-insn-per-tb=on"],
            append: "guest.run=shell",
            story: &[
                Wait("GUEST-READY"),
                Wait("# "),
                Type("echo $((6 * 7)) is right\n"),
                Wait("42 is right"),
                Type("exit\n"),
                Wait("GUEST-DONE 0"),
                Exit(0),
            ],
        }],
    },
    Boot {
        name: "reboot",
        image: SMALL,
        runs: &[Run {
            arguments: &["!reboot"],
            append: "guest.run=none guest.exit=reboot",
            story: TWO_LIVES,
        }],
    },
    Boot {
        name: "no-reboot",
        image: SMALL,
        runs: &[Run {
            arguments: &[],
            append: "guest.run=none guest.exit=reboot",
            story: &[Wait("GUEST-DONE 0"), Exit(0)],
        }],
    },
    Boot {
        name: "panic",
        image: SMALL,
        runs: &[Run {
            arguments: &[],
            append: "guest.run=none guest.exit=panic panic=1",
            story: &[Wait("Kernel panic"), Exit(0)],
        }],
    },
    Boot {
        name: "monitor",
        image: SMALL,
        runs: &[Run {
            arguments: &[],
            append: "guest.run=shell",
            story: &[
                Wait("# "),
                Type("\u{1}c"),
                Wait("(qemu)"),
                Type("info status\n"),
                Wait("VM status: running"),
                Wait("(qemu)"),
                Type("\u{1}c"),
                Type("\n"),
                Wait("# "),
                Type("\u{1}c\n"),
                Wait("(qemu)"),
                Type("quit\n"),
                Exit(0),
            ],
        }],
    },
    disk!("disk-pci", "-drive", "file={disk},if=none,id=d", "-device", "virtio-blk-pci,drive=d"),
    disk!(
        "disk-mmio",
        "-drive",
        "file={disk},if=none,id=d",
        "-device",
        "virtio-blk-device,drive=d"
    ),
    disk!(
        "disk-packed",
        "-blockdev",
        "driver=qcow2,node-name=d,file.driver=file,file.filename={disk}",
        "-device",
        "virtio-blk-pci,drive=d,packed=on",
        "-smp",
        "2"
    ),
    Boot {
        name: "disk-scsi",
        image: SMALL,
        runs: &[Run {
            arguments: &[
                "-device",
                "virtio-scsi-pci",
                "-drive",
                "file={disk},if=none,id=d",
                "-device",
                "scsi-hd,drive=d",
            ],
            append: "guest.disk=sda guest.root guest.run=disktest",
            story: &[Wait("GUEST-SELFTEST PASS"), Exit(0)],
        }],
    },
    Boot {
        name: "u-boot-machine",
        image: SMALL,
        runs: &[Run {
            arguments: &[
                "!reboot",
                "-bios",
                "{guest}/u-boot.bin",
                "-drive",
                "file={disk},if=none,id=d",
                "-device",
                "virtio-blk-device,drive=d",
            ],
            append: "",
            story: &[
                Wait("Hit any key to stop autoboot"),
                Type("\n"),
                Wait("=> "),
                Type("bdinfo\n"),
                Wait("start    = 0x0000000080000000"),
                Wait("=> "),
                Type("virtio scan; ls virtio 0\n"),
                Wait("lost+found/"),
                Wait("=> "),
                Type("reset\n"),
                Wait("Hit any key to stop autoboot"),
                Type("\n"),
                Wait("=> "),
                Type("poweroff\n"),
                Exit(0),
            ],
        }],
    },
    Boot {
        name: "u-boot",
        image: SMALL,
        runs: &[Run {
            arguments: &["-kernel", "{guest}/u-boot-smode.bin"],
            append: "",
            story: &[
                Wait("Hit any key to stop autoboot"),
                Type("\n"),
                Wait("=> "),
                Type("version\n"),
                Wait("U-Boot 20"),
                Wait("=> "),
                Type("poweroff\n"),
                Exit(0),
            ],
        }],
    },
];

/// All of Debian: it configures its packages, installs others and compiles.
const DEBIAN: Boot = Boot {
    name: "debian",
    image: "riscv64-debian",
    runs: &[
        Run {
            arguments: DEBIAN_MACHINE,
            append: "guest.disk=vda guest.root guest.run=init",
            story: &[
                WaitLong("GUEST-CONFIGURED 0"),
                Wait("login: "),
                Type("root\n"),
                Wait("root@tinamou:~# "),
                Type("echo it is $(systemctl is-system-running --wait)\n"),
                Wait("it is running"),
                Wait("root@tinamou:~# "),
                Type("apt-get update && apt-get install -y hello bc && hello\n"),
                Wait("Hello, world!"),
                Wait("root@tinamou:~# "),
                Type("echo '2^100' | bc; dpkg --audit && echo dpkg is con''tent\n"),
                Wait("1267650600228229401496703205376"),
                Wait("dpkg is content"),
                Wait("root@tinamou:~# "),
                Type(
                    "printf '#include <stdio.h>\\nint main(void) { printf(\"%%d\\\\n\", 6 * 7); }' > x.c\n",
                ),
                Wait("root@tinamou:~# "),
                Type("gcc -O2 -Wall -o x x.c && echo it says $(./x)\n"),
                Wait("it says 42"),
                Wait("root@tinamou:~# "),
                Type("poweroff\n"),
                Exit(0),
            ],
        },
        Run { arguments: DEBIAN_MACHINE, append: "guest.disk=vda guest.run=fsck", story: FSCK },
    ],
};

const DEBIAN_MACHINE: &[&str] = &[
    "-m",
    "1G",
    "-smp",
    "2",
    "-drive",
    "file={disk},if=none,id=d",
    "-device",
    "virtio-blk-pci,drive=d",
    "-device",
    "virtio-rng-pci",
];

/// Boots in a row, since a lost interrupt does not show every time.
const IN_A_ROW: usize = 24;

const ROW: Boot = Boot {
    name: "in-a-row",
    image: SMALL,
    runs: &[Run {
        arguments: &["-smp", "2"],
        append: "guest.run=none",
        story: &[Wait("GUEST-READY"), Wait("GUEST-DONE 0"), Exit(0)],
    }],
};

/// `cargo xtask boots`.
///
/// # Errors
/// When a boot fails.
pub fn run(arguments: &[String]) -> Result<()> {
    let mut program = None;
    let mut rest = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--with" => program = Some(words.next().ok_or("--with: which program?")?),
            "--list" => {
                BOOTS.iter().for_each(|boot| println!("{}", boot.name));
                println!("{}", ROW.name);
                return Ok(());
            }
            name => rest.push(name.to_string()),
        }
    }
    let emulator = match program {
        Some(program) => Emulator::other(program),
        None => Emulator::ours()?,
    };
    let failed = all(&emulator, &rest)?.iter().filter(|(_, done)| done.is_err()).count();
    if failed == 0 { Ok(()) } else { Err(format!("{failed} boots failed")) }
}

/// Runs the boots of these names (all, if none) and tells each as it ends.
///
/// # Errors
/// When there is nothing to boot: the guest cannot be built, a name is unknown.
pub fn all(emulator: &Emulator, names: &[String]) -> Result<Vec<(String, Result<()>)>> {
    let known = |name: &String| name == ROW.name || BOOTS.iter().any(|boot| boot.name == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(format!("unknown boot '{name}'; see cargo xtask boots --list"));
    }
    packages::need(&["opensbi"])?;
    let guest = guests::folder(SMALL)?;
    let wanted = |name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut todo: Vec<(String, &Boot)> = Vec::new();
    for boot in BOOTS.iter().filter(|boot| wanted(boot.name)) {
        guests::folder(boot.image)?;
        todo.push((boot.name.to_string(), boot));
    }
    if wanted(ROW.name) {
        todo.extend((1..=IN_A_ROW).map(|turn| (format!("{}-{turn}", ROW.name), &ROW)));
    }
    todo.reverse();
    let todo = Mutex::new(todo);
    let told = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, usize::from).div_ceil(2).max(2);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((name, boot)) = next else { break };
                    let start = Instant::now();
                    let done = play(emulator, &guest, &name, boot);
                    let took = start.elapsed().as_secs_f64();
                    match &done {
                        Ok(()) => println!("  boot {name} ok ({took:.1} s)"),
                        Err(message) => println!("  boot {name} FAIL ({took:.1} s)\n{message}"),
                    }
                    told.lock().unwrap_or_else(PoisonError::into_inner).push((name, done));
                }
            });
        }
    });
    Ok(told.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn play(emulator: &Emulator, guest: &Path, name: &str, boot: &Boot) -> Result<()> {
    let folder = tools::target().join("boots");
    tools::make_folder(&folder)?;
    let work = Scratch::new(&folder, name)?;
    let disk = work.path().join("disk.qcow2");
    let image = guests::folder(boot.image)?;
    let original = image.join("root.qcow2");
    let uses_disk = |run: &Run| run.arguments.iter().any(|word| word.contains("{disk}"));
    if boot.runs.iter().any(uses_disk) {
        fs::copy(&original, &disk).at("copying", &original)?;
    }
    for run in boot.runs {
        let mut command = emulator.command();
        command.args(command_line(run, guest, &image, &disk));
        let shown = tools::shown(&command);
        let mut session = Session::start(&mut command)?;
        let done = run.story.iter().try_for_each(|step| follow(&mut session, step));
        done.map_err(|error| format!("  {shown}\n  {error}"))?;
    }
    Ok(())
}

/// The arguments of one run. `!reboot` lets the machine restart.
fn command_line(run: &Run, guest: &Path, image: &Path, disk: &Path) -> Vec<String> {
    let guest = guest.display().to_string();
    let image = image.display().to_string();
    let disk = disk.display().to_string();
    let mut line: Vec<String> = Vec::new();
    for (option, usual) in [("-M", "virt"), ("-m", "512")] {
        if !run.arguments.contains(&option) {
            line.extend([option, usual].map(String::from));
        }
    }
    line.push("-nographic".into());
    if run.arguments.contains(&"!reboot") {
        line.extend(["-action", "reboot=reset"].map(String::from));
    } else {
        line.push("-no-reboot".into());
    }
    for word in run.arguments.iter().filter(|word| !word.starts_with('!')) {
        line.push(
            word.replace("{guest}", &guest).replace("{image}", &image).replace("{disk}", &disk),
        );
    }
    if !run.append.is_empty() {
        let kernel = format!("{guest}/kernel");
        let initrd = format!("{guest}/initrd.gz");
        let append = format!("console=ttyS0 {}", run.append);
        line.extend(["-kernel".into(), kernel, "-initrd".into(), initrd]);
        line.extend(["-append".into(), append]);
    }
    line
}

fn follow(session: &mut Session, step: &Step) -> Result<()> {
    match step {
        Wait(text) => session.wait_for(text, PATIENCE),
        WaitLong(text) => session.wait_for(text, LONG_PATIENCE),
        Type(text) => session.send(text),
        Exit(code) => {
            let status = session.wait_for_end(PATIENCE)?;
            if status.code() == Some(*code) {
                return Ok(());
            }
            Err(format!("it ended with {status}, not {code}\n{}", session.tail()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_a_command_line_are_filled_in() {
        let run =
            Run { arguments: &["-drive", "file={disk}"], append: "guest.run=none", story: &[] };
        let line = command_line(&run, Path::new("/g"), Path::new("/i"), Path::new("/d")).join(" ");
        assert_eq!(
            line,
            "-M virt -m 512 -nographic -no-reboot -drive file=/d \
             -kernel /g/kernel -initrd /g/initrd.gz -append console=ttyS0 guest.run=none"
        );
    }

    #[test]
    fn names_of_boots_are_unique() {
        let mut names: Vec<&str> = BOOTS.iter().map(|boot| boot.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BOOTS.len());
    }
}
