//! A folder as a disk: what others find on it. `fsck.vfat` and `mtools` read what we make.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use graph::{ExtentKind, Node, WriteFlags};
use protocols::{FatType, Vvfat, VvfatOptions};

/// A new folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("vvfat-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(path.join("dir")).unwrap();
    path
}

/// Files of several names and lengths, and what leads out of the folder.
fn fill(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut add = |name: &str, len: usize| {
        let bytes: Vec<u8> = (0..len).map(|n| (n * 7 + name.len() + n / 251) as u8).collect();
        fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        fs::write(dir.join(name), &bytes).unwrap();
        files.push((name.to_owned(), bytes));
    };
    add("README", 100);
    add("a.txt", 1);
    add("empty", 0);
    add("A long name with blanks.text", 70_000);
    add("A long name with others.text", 513);
    add("sub/deeper/still deeper/file.bin", 200_000);
    add("sub/Größe.txt", 12);
    for n in 0..120 {
        add(&format!("many/one of very many files {n}"), n * 40);
    }
    std::os::unix::fs::symlink("/etc/passwd", dir.join("out")).unwrap();
    std::os::unix::fs::symlink("..", dir.join("up")).unwrap();
    files
}

/// Writes the file system, from `skip` bytes on, to a file with holes.
fn dump(disk: &Vvfat, skip: u64, path: &Path) {
    let file = fs::File::create(path).unwrap();
    file.set_len(disk.size() - skip).unwrap();
    let mut at = skip;
    while at < disk.size() {
        let extent = disk.block_status(at, disk.size() - at).unwrap();
        if extent.kind == ExtentKind::Data {
            let mut bytes = vec![0; extent.len as usize];
            disk.read_at(at, &mut bytes).unwrap();
            file.write_all_at(&bytes, at - skip).unwrap();
        }
        at += extent.len;
    }
}

/// Runs a tool that has to succeed: what it printed.
fn tool(program: &str, args: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("{program} (dosfstools, mtools): {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {text}");
    output.stdout
}

#[test]
fn every_kind_of_disk_is_clean_and_has_the_files() {
    let within = folder("kinds");
    let dir = within.join("dir");
    let files = fill(&dir);
    for (floppy, fat) in [
        (true, None),
        (true, Some(FatType::Fat12)),
        (false, None),
        (false, Some(FatType::Fat12)),
        (false, Some(FatType::Fat32)),
    ] {
        let options = VvfatOptions {
            floppy,
            fat_type: fat,
            label: "A LABEL".to_owned(),
            ..VvfatOptions::new(&dir)
        };
        let disk = Vvfat::open(options).unwrap();
        let image = within.join("image");
        dump(&disk, if floppy { 0 } else { 63 * 512 }, &image);
        let image = image.display().to_string();
        tool("fsck.vfat", &["-n", &image]);
        let listed = tool("mdir", &["-i", &image, "::"]);
        assert!(String::from_utf8_lossy(&listed).contains("is A LABEL"), "{floppy} {fat:?}");
        for (name, bytes) in &files {
            let found = tool("mtype", &["-i", &image, &format!("::{name}")]);
            assert!(found == *bytes, "{name} on {floppy} {fat:?}");
        }
        let all = tool("mdir", &["-b", "-i", &image, "::"]);
        let all = String::from_utf8_lossy(&all);
        assert!(!all.contains("out") && !all.contains("up\n"), "{all}");
    }
}

#[test]
fn a_disk_with_a_partition_says_where_it_is() {
    let within = folder("partition");
    fill(&within.join("dir"));
    let disk = Vvfat::open(VvfatOptions::new(within.join("dir"))).unwrap();
    let mut sector = [0; 512];
    disk.read_at(0, &mut sector).unwrap();
    assert_eq!(sector[510..], [0x55, 0xaa]);
    assert_eq!((sector[446], sector[450]), (0x80, 0x06));
    assert_eq!(sector[454..458], 63_u32.to_le_bytes());
    let sectors = (disk.size() / 512 - 63) as u32;
    assert_eq!(sector[458..462], sectors.to_le_bytes());
}

#[test]
fn what_takes_the_place_of_a_file_is_not_read() {
    let within = folder("replaced");
    let dir = within.join("dir");
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/file"), [7; 600]).unwrap();
    fs::write(within.join("secret"), [9; 600]).unwrap();
    let open = || Vvfat::open(VvfatOptions::new(&dir)).unwrap();
    let (kept, by_file, by_folder) = (open(), open(), open());
    let at = (0..kept.size() / 512)
        .map(|sector| sector * 512)
        .find(|at| {
            let mut bytes = [0; 512];
            kept.read_at(*at, &mut bytes).unwrap();
            bytes == [7; 512]
        })
        .unwrap();
    let mut bytes = [0; 512];
    fs::remove_file(dir.join("sub/file")).unwrap();
    std::os::unix::fs::symlink("../../secret", dir.join("sub/file")).unwrap();
    assert!(by_file.read_at(at, &mut bytes).is_err());
    fs::remove_dir_all(dir.join("sub")).unwrap();
    fs::create_dir(within.join("other")).unwrap();
    fs::write(within.join("other/file"), [9; 600]).unwrap();
    std::os::unix::fs::symlink("../other", dir.join("sub")).unwrap();
    assert!(by_folder.read_at(at, &mut bytes).is_err());
    // The file that was open already is still the one it was.
    kept.read_at(at, &mut bytes).unwrap();
    assert_eq!(bytes, [7; 512]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let within = folder("refused");
    let dir = within.join("dir");
    let open = |options: VvfatOptions| Vvfat::open(options).err().map(|e| e.to_string());
    let floppy = VvfatOptions { floppy: true, ..VvfatOptions::new(&dir) };
    fs::write(dir.join("big"), vec![1; 4 << 20]).unwrap();
    assert!(open(floppy.clone()).unwrap().contains("too large for the disk"));
    fs::remove_file(dir.join("big")).unwrap();
    for n in 0..300 {
        fs::write(dir.join(format!("a name that is long {n}")), []).unwrap();
    }
    assert_eq!(open(floppy).as_deref(), Some("Too many files in the root directory"));
    let label = VvfatOptions { label: "a longer label".to_owned(), ..VvfatOptions::new(&dir) };
    assert_eq!(open(label).as_deref(), Some("vvfat label cannot be longer than 11 bytes"));
    let missing = VvfatOptions::new(within.join("none"));
    assert!(open(missing).unwrap().starts_with("Could not read directory "));
    let disk = Vvfat::open(VvfatOptions::new(&within)).unwrap();
    assert!(disk.read_only());
    assert!(disk.write_at(0, &[0; 512], WriteFlags::default()).is_err());
}
