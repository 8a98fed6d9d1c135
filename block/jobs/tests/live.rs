//! Block jobs while a guest writes: mirror, backup, stream and commit, with errors and cancelling.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use common::*;
use graph::Node;
use jobs::job::{JobInfo, OnError, Status};
use jobs::site::{
    BackupOptions, BackupSync, BitmapMode, CommitOptions, Common, CopyMode, MirrorOptions,
    MirrorSync, NewBitmap, OnCopyError, StreamOptions,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn by_hand(id: &str) -> Common {
    Common { id: Some(id.to_owned()), auto_dismiss: false, ..Common::default() }
}

fn mirror() -> MirrorOptions {
    MirrorOptions {
        device: "source".to_owned(),
        target: "target".to_owned(),
        granularity: Some(4096),
        ..MirrorOptions::default()
    }
}

fn backup() -> BackupOptions {
    let (device, target) = ("source".to_owned(), "target".to_owned());
    BackupOptions { device, target, ..BackupOptions::default() }
}

/// A source with content and a target full of rubbish.
fn pair(size: u64) -> (World, Arc<Layer>, Arc<Layer>) {
    let world = World::new();
    let source = world.layer("source", size, None);
    let target = world.layer("target", size, None);
    fill(&*source, 0, size / 2, 0);
    fill(&*target, size / 4, size / 2, 0x55);
    (world, source, target)
}

#[test]
fn a_mirror_converges_under_writes_and_pivots_without_losing_one() {
    for copy_mode in [CopyMode::Background, CopyMode::WriteBlocking] {
        let (world, source, target) = pair(16 * MIB);
        let disk = world.device("source");
        let guest = Guest::start(&disk, 7);
        let options = MirrorOptions { copy_mode, ..mirror() };
        world.site.mirror(&options, &by_hand("m")).unwrap();
        world.until("m", Status::Ready);
        guest.more(200);
        world.site.jobs.complete("m").unwrap();
        assert_eq!(world.end("m"), None);
        assert_eq!(world.heard(), ["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"]);
        let at_end = disk.target().unwrap();
        assert!(Arc::ptr_eq(&at_end, &world.member("target")), "the disk has moved");
        let before = read_all(&*source);
        guest.more(200);
        let model = guest.stop();
        assert!(read_all(&*target) == model, "{copy_mode:?}");
        assert!(read_all(&*source) == before, "nothing goes to the source any more");
    }
}

#[test]
fn a_mirror_that_is_told_to_go_along_is_in_step_for_good() {
    let (world, source, target) = pair(8 * MIB);
    let disk = world.device("source");
    let guest = Guest::start(&disk, 11);
    world.site.mirror(&mirror(), &by_hand("m")).unwrap();
    world.until("m", Status::Ready);
    let change = |along| world.site.jobs.change_copy_mode("m", along);
    change(false).unwrap();
    change(true).unwrap();
    let text = "Change to copy mode 'background' is not implemented";
    assert_eq!(change(false).unwrap_err().text, text);
    while world.site.jobs.info("m").unwrap().actively_synced != Some(true) {
        std::thread::yield_now();
    }
    guest.more(20);
    // Nothing is left to copy at any moment between two writes.
    let (same, _) = guest.still(|| read_all(&*target) == read_all(&*source));
    assert!(same);
    guest.stop();
    world.site.jobs.cancel("m", true).unwrap();
    assert!(world.end("m").is_some());
    world
        .site
        .backup(&BackupOptions { sync: BackupSync::None, ..backup() }, &by_hand("b"))
        .unwrap();
    let text = "Job type does not support change";
    assert_eq!(world.site.jobs.change_copy_mode("b", true).unwrap_err().text, text);
}

#[test]
fn a_mirror_that_is_ready_and_cancelled_leaves_a_copy_of_one_moment() {
    let (world, source, target) = pair(8 * MIB);
    let disk = world.device("source");
    let guest = Guest::start(&disk, 8);
    world.site.mirror(&mirror(), &by_hand("m")).unwrap();
    world.until("m", Status::Ready);
    guest.more(50);
    let ((), model) = guest.still(|| {
        world.site.jobs.block_job_cancel("m", false).unwrap();
        world.until("m", Status::Concluded);
    });
    assert!(read_all(&*target) == model);
    assert!(Arc::ptr_eq(&disk.target().unwrap(), &world.member("source")));
    guest.more(50);
    let model = guest.stop();
    assert!(read_all(&*source) == model);
    assert_eq!(world.heard(), ["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"]);
}

#[test]
fn a_mirror_copies_what_its_sync_mode_says() {
    for (sync, first, changed) in [
        (MirrorSync::Full, true, true),
        (MirrorSync::Top, false, true),
        (MirrorSync::None, false, true),
    ] {
        let world = World::new();
        let base = world.layer("base", 4 * MIB, None);
        fill(&*base, 0, MIB, 1);
        let source = world.layer("source", 4 * MIB, Some(&world.member("base")));
        fill(&*source, 2 * MIB, MIB, 2);
        let target = world.layer("target", 4 * MIB, None);
        let disk = world.device("source");
        world.site.mirror(&MirrorOptions { sync, ..mirror() }, &by_hand("m")).unwrap();
        world.until("m", Status::Ready);
        fill(&*disk, 3 * MIB, 4096, 3);
        world.site.jobs.block_job_cancel("m", false).unwrap();
        assert_eq!(world.end("m"), None);
        let (ours, theirs) = (read_all(&*source), read_all(&*target));
        let same = |at: u64, len: u64| {
            ours[at as usize..(at + len) as usize] == theirs[at as usize..(at + len) as usize]
        };
        assert_eq!(same(0, MIB), first, "{sync:?}");
        assert_eq!(same(2 * MIB, MIB), sync != MirrorSync::None, "{sync:?}");
        assert_eq!(same(3 * MIB, MIB), changed, "{sync:?}");
    }
}

#[test]
fn a_mirror_stops_at_errors_and_goes_on_when_resumed() {
    let (world, source, target) = pair(4 * MIB);
    target.faults.fail_writes(ENOSPC, 3);
    let options = MirrorOptions { on_target_error: OnError::Enospc, ..mirror() };
    world.site.mirror(&options, &by_hand("m")).unwrap();
    loop {
        let stopped = |job: &JobInfo| job.status == Status::Paused && job.paused;
        world.site.jobs.wait(|list| stopped(&list[0]) || list[0].status == Status::Ready);
        let info = world.site.jobs.info("m").unwrap();
        if info.status == Status::Ready {
            break;
        }
        assert_eq!(info.io_status.name(), "nospace");
        world.site.jobs.resume("m").unwrap();
    }
    world.site.jobs.complete("m").unwrap();
    assert_eq!(world.end("m"), None);
    assert!(read_all(&*target) == read_all(&*source));
}

#[test]
fn a_mirror_whose_target_fails_ends_with_the_error_and_leaves_the_source() {
    for copy_mode in [CopyMode::Background, CopyMode::WriteBlocking] {
        let (world, source, target) = pair(4 * MIB);
        let disk = world.device("source");
        let guest = Guest::start(&disk, 9);
        let options = MirrorOptions { copy_mode, ..mirror() };
        world.site.mirror(&options, &by_hand("m")).unwrap();
        world.until("m", Status::Ready);
        target.faults.fail_writes(EIO, u64::MAX);
        assert_eq!(world.end("m").as_deref(), Some("Input/output error"));
        guest.more(20);
        let model = guest.stop();
        assert!(read_all(&*source) == model, "the guest has noticed nothing");
        drop(disk);
        world.site.graph.remove("source").unwrap();
        world.site.graph.remove("target").unwrap();
    }
}

#[test]
fn jobs_can_be_cancelled_and_paused_at_any_phase() {
    // A slow start, a fast end: the phases are what a limit of speed leaves time for.
    for force in [true, false] {
        let (world, source, _target) = pair(4 * MIB);
        let disk = world.device("source");
        let guest = Guest::start(&disk, 10);
        let slow = Common { speed: 1, ..by_hand("j") };
        world.site.mirror(&mirror(), &slow).unwrap();
        while world.site.jobs.info("j").unwrap().current == 0 {
            std::thread::yield_now();
        }
        world.site.jobs.pause("j").unwrap();
        world.until("j", Status::Paused);
        guest.more(20);
        world.site.jobs.resume("j").unwrap();
        world.site.jobs.cancel("j", force).unwrap();
        assert_eq!(world.end("j").as_deref(), Some("Operation canceled"));
        // The guest would soon have the hook copy everything, and the backup succeed.
        let cancelled = guest.still(|| {
            world.site.backup(&backup(), &slow).unwrap();
            world.site.jobs.cancel("j", force)
        });
        cancelled.0.unwrap();
        assert_eq!(world.end("j").as_deref(), Some("Operation canceled"));
        // Done, and not yet final.
        let pending = Common { auto_finalize: false, ..by_hand("j") };
        world.site.backup(&backup(), &pending).unwrap();
        world.until("j", Status::Pending);
        world.site.jobs.cancel("j", force).unwrap();
        assert_eq!(world.end("j").as_deref(), Some("Operation canceled"));
        world.site.mirror(&mirror(), &pending).unwrap();
        world.until("j", Status::Ready);
        world.site.jobs.complete("j").unwrap();
        world.until("j", Status::Pending);
        guest.more(20);
        world.site.jobs.cancel("j", force).unwrap();
        assert_eq!(world.end("j").as_deref(), Some("Operation canceled"));
        guest.more(20);
        let model = guest.stop();
        assert!(read_all(&*source) == model);
        assert!(Arc::ptr_eq(&disk.target().unwrap(), &world.member("source")));
    }
}

#[test]
fn a_backup_is_the_source_at_the_moment_of_the_command() {
    for round in 0..4 {
        let (world, _source, target) = pair(16 * MIB);
        let disk = world.device("source");
        let guest = Guest::start(&disk, 20 + round);
        guest.more(20);
        let (started, model) = guest.still(|| world.site.backup(&backup(), &by_hand("b")));
        started.unwrap();
        assert_eq!(world.end("b"), None);
        guest.more(20);
        guest.stop();
        assert!(read_all(&*target) == model);
        assert_eq!(world.heard(), ["BLOCK_JOB_COMPLETED"]);
    }
}

#[test]
fn incremental_backups_follow_one_another() {
    let (world, _source, target) = pair(8 * MIB);
    let disk = world.device("source");
    let guest = Guest::start(&disk, 30);
    let bitmap =
        NewBitmap { node: "source".to_owned(), name: "dirty".to_owned(), ..NewBitmap::default() };
    let (both, model) = guest.still(|| {
        world.site.bitmaps.add(&bitmap).unwrap();
        world.site.backup(&backup(), &by_hand("b"))
    });
    both.unwrap();
    assert_eq!(world.end("b"), None);
    assert!(read_all(&*target) == model);
    let options = BackupOptions {
        sync: BackupSync::Incremental,
        bitmap: Some("dirty".to_owned()),
        ..backup()
    };
    for round in 0..6 {
        guest.more(30);
        if round % 2 == 1 {
            // One that fails takes nothing from the next.
            target.faults.fail_writes(EIO, 1);
            let on_copy_error = OnCopyError::BreakSnapshot;
            let options = BackupOptions { on_copy_error, ..options.clone() };
            guest.still(|| world.site.backup(&options, &by_hand("b"))).0.unwrap();
            assert_eq!(world.end("b").as_deref(), Some("Input/output error"));
            target.faults.fail_writes(EIO, 0);
        }
        let (started, model) = guest.still(|| world.site.backup(&options, &by_hand("b")));
        started.unwrap();
        assert_eq!(world.end("b"), None);
        assert!(read_all(&*target) == model, "round {round}");
    }
    guest.stop();
}

#[test]
fn what_a_backup_takes_from_its_source_is_a_change_of_the_source() {
    let (world, _source, _target) = pair(4 * MIB);
    let name = "dirty".to_owned();
    let new = NewBitmap { node: "source".to_owned(), name, ..NewBitmap::default() };
    world.site.bitmaps.add(&new).unwrap();
    let options = BackupOptions { discard_source: true, ..backup() };
    world.site.backup(&options, &by_hand("b")).unwrap();
    assert_eq!(world.end("b"), None);
    let list = world.site.bitmaps.list(&world.member("source"));
    assert_eq!(list[0].count, 4 * MIB);
}

#[test]
fn what_becomes_of_the_bitmap_is_the_users_choice() {
    for (mode, fails, left) in [
        (BitmapMode::OnSuccess, false, 0),
        (BitmapMode::OnSuccess, true, MIB),
        (BitmapMode::Never, false, MIB),
        (BitmapMode::Never, true, MIB),
        (BitmapMode::Always, false, 0),
        (BitmapMode::Always, true, MIB / 2),
    ] {
        let (world, source, target) = pair(4 * MIB);
        drop(source);
        let disk = world.device("source");
        let new = NewBitmap {
            node: "source".to_owned(),
            name: "dirty".to_owned(),
            ..NewBitmap::default()
        };
        world.site.bitmaps.add(&new).unwrap();
        fill(&*disk, MIB, MIB, 9);
        let options = BackupOptions {
            sync: BackupSync::Bitmap,
            bitmap: Some("dirty".to_owned()),
            bitmap_mode: Some(mode),
            max_chunk: Some(64 << 10),
            max_workers: Some(1),
            ..backup()
        };
        if fails {
            target.faults.from.store(MIB + MIB / 2, std::sync::atomic::Ordering::SeqCst);
            target.faults.fail_writes(EIO, u64::MAX);
        }
        world.site.backup(&options, &by_hand("b")).unwrap();
        assert_eq!(world.end("b").is_some(), fails);
        let list = world.site.bitmaps.list(&world.member("source"));
        assert_eq!((list[0].count, list[0].busy), (left, false), "{mode:?} {fails}");
    }
}

#[test]
fn a_copy_before_a_write_that_fails_breaks_the_write_or_the_backup() {
    for (on_copy_error, guest_fails) in
        [(OnCopyError::BreakGuestWrite, true), (OnCopyError::BreakSnapshot, false)]
    {
        let (world, source, target) = pair(4 * MIB);
        let disk = world.device("source");
        let options = BackupOptions { sync: BackupSync::None, on_copy_error, ..backup() };
        world.site.backup(&options, &by_hand("b")).unwrap();
        target.faults.fail_writes(EIO, 1);
        let written = disk.write_at(0, &[9; 512], graph::WriteFlags::default());
        assert_eq!(written.is_err(), guest_fails);
        if guest_fails {
            assert_ne!(read_all(&*source)[0], 9);
            world.site.jobs.cancel("b", true).unwrap();
        }
        let error = if guest_fails { "Operation canceled" } else { "Input/output error" };
        assert_eq!(world.end("b").as_deref(), Some(error));
    }
}

#[test]
fn a_backup_of_what_changes_keeps_the_old_content_only() {
    let (world, source, target) = pair(4 * MIB);
    let before = read_all(&*source);
    let disk = world.device("source");
    let options = BackupOptions { sync: BackupSync::None, ..backup() };
    world.site.backup(&options, &by_hand("b")).unwrap();
    fill(&*disk, MIB + 100, 512, 7);
    world.site.jobs.cancel("b", false).unwrap();
    assert!(world.end("b").is_some());
    let (cluster, from) = (64 << 10, MIB as usize);
    assert_eq!(read_all(&*target)[from..from + cluster], before[from..from + cluster]);
}

/// Three layers, each with content of its own and some that hides what is below.
fn tower() -> (World, [Arc<Layer>; 3]) {
    let world = World::new();
    let base = world.layer("base", 8 * MIB, None);
    let middle = world.layer("middle", 8 * MIB, Some(&world.member("base")));
    let top = world.layer("top", 8 * MIB, Some(&world.member("middle")));
    fill(&*base, 0, 6 * MIB, 1);
    fill(&*middle, 2 * MIB, 3 * MIB, 2);
    fill(&*middle, 7 * MIB, MIB / 2, 2);
    fill(&*top, 3 * MIB, MIB, 3);
    (world, [base, middle, top])
}

#[test]
fn a_stream_takes_up_the_layers_below_while_the_guest_writes() {
    for base in [None, Some("base")] {
        let (world, [_base, middle, top]) = tower();
        let disk = world.device("top");
        let guest = Guest::start(&disk, 40);
        let options = StreamOptions {
            device: "top".to_owned(),
            base_node: base.map(str::to_owned),
            ..StreamOptions::default()
        };
        let before = read_all(&*middle);
        world.site.stream(&options, &by_hand("s")).unwrap();
        assert_eq!(world.end("s"), None);
        guest.more(30);
        let model = guest.stop();
        assert!(read_all(&*disk) == model);
        assert!(read_all(&*middle) == before);
        let below = world.member("top").children()[0].target();
        assert_eq!(below.map(|m| m.name().to_owned()).as_deref(), base);
        let recorded = top.recorded.lock().unwrap().clone();
        assert_eq!(recorded.is_some(), base.is_some());
        world.site.graph.remove("middle").unwrap();
    }
}

#[test]
fn a_stream_that_ignores_errors_goes_on_and_fails_in_the_end() {
    let (world, [base, _middle, top]) = tower();
    base.faults.fail_reads(EIO, 1);
    let options = StreamOptions {
        device: "top".to_owned(),
        on_error: OnError::Ignore,
        ..StreamOptions::default()
    };
    world.site.stream(&options, &by_hand("s")).unwrap();
    assert_eq!(world.end("s").as_deref(), Some("Input/output error"));
    assert!(top.allocated().len() > 1000, "the rest was taken up");
    assert!(world.member("top").children()[0].target().is_some(), "the backing file stays");
}

#[test]
fn a_commit_takes_layers_out_of_the_chain() {
    let (world, [base, _middle, top]) = tower();
    let disk = world.device("top");
    let guest = Guest::start(&disk, 50);
    let options = CommitOptions {
        device: "top".to_owned(),
        top_node: Some("middle".to_owned()),
        ..CommitOptions::default()
    };
    world.site.commit(&options, &by_hand("c")).unwrap();
    assert_eq!(world.end("c"), None);
    guest.more(30);
    let model = guest.stop();
    assert!(read_all(&*disk) == model);
    let below = world.member("top").children()[0].target().unwrap();
    assert_eq!(below.name(), "base");
    assert_eq!(top.recorded.lock().unwrap().clone().unwrap().0, "layer.img");
    assert_eq!(base.faults.writes.load(std::sync::atomic::Ordering::SeqCst), 0);
    world.site.graph.remove("middle").unwrap();
}

#[test]
fn a_commit_of_the_active_layer_is_completed_by_hand_and_pivots() {
    for cancel in [false, true] {
        let (world, [base, middle, top]) = tower();
        let disk = world.device("top");
        let guest = Guest::start(&disk, 60);
        let options = CommitOptions {
            device: "top".to_owned(),
            base_node: Some("base".to_owned()),
            ..CommitOptions::default()
        };
        world.site.commit(&options, &by_hand("c")).unwrap();
        world.until("c", Status::Ready);
        guest.more(30);
        if cancel {
            world.site.jobs.block_job_cancel("c", false).unwrap();
        } else {
            world.site.jobs.complete("c").unwrap();
        }
        assert_eq!(world.end("c"), None);
        guest.more(30);
        let model = guest.stop();
        assert!(read_all(&*disk) == model);
        let at_end = disk.target().unwrap();
        assert_eq!(at_end.name(), if cancel { "top" } else { "base" });
        if !cancel {
            assert!(read_all(&*base) == model);
        }
        let _ = (middle, top);
    }
}

#[test]
fn jobs_refuse_what_cannot_be() {
    let (world, ..) = tower();
    world.layer("small", MIB, None);
    world.layer("target", 8 * MIB, None);
    let node = |name: &str| name.to_owned();
    let common = by_hand("j");
    let mirror = |device: &str, target: &str, granularity| {
        let (device, target) = (node(device), node(target));
        let options = MirrorOptions { device, target, granularity, ..MirrorOptions::default() };
        world.site.mirror(&options, &common).unwrap_err().text
    };
    let cannot_find = |name: &str| format!("Cannot find device='{name}' nor node-name='{name}'");
    assert_eq!(mirror("no", "target", None), cannot_find("no"));
    assert_eq!(mirror("top", "no", None), cannot_find("no"));
    assert_eq!(mirror("top", "top", None), "Can't mirror node into itself");
    let range = "Parameter 'granularity' expects a value in range [512B, 64MB]";
    assert_eq!(mirror("top", "target", Some(100)), range);
    let power = "Parameter 'granularity' expects a power of 2";
    assert_eq!(mirror("top", "target", Some(513)), power);
    let backup = |change: &dyn Fn(&mut BackupOptions)| {
        let mut options = BackupOptions {
            device: node("top"),
            target: node("target"),
            ..BackupOptions::default()
        };
        change(&mut options);
        world.site.backup(&options, &common).unwrap_err().text
    };
    let sizes = "Source and target image have different sizes";
    assert_eq!(backup(&|o| o.target = node("small")), sizes);
    assert_eq!(backup(&|o| o.target = node("top")), "Source and target cannot be the same");
    assert_eq!(backup(&|o| o.compress = true), "Compression is not supported for this drive ");
    let name = "must provide a valid bitmap name for 'incremental' sync mode";
    assert_eq!(backup(&|o| o.sync = BackupSync::Incremental), name);
    assert_eq!(
        backup(&|o| o.max_workers = Some(0)),
        "max-workers must be between 1 and 2147483647"
    );
    let stream = |change: &dyn Fn(&mut StreamOptions)| {
        let mut options = StreamOptions { device: node("top"), ..StreamOptions::default() };
        change(&mut options);
        world.site.stream(&options, &common).unwrap_err().text
    };
    let not_below = "Node 'target' is not a backing image of 'top'";
    assert_eq!(stream(&|o| o.base_node = Some(node("target"))), not_below);
    let nowhere = "Can't find 'x' in the backing chain";
    assert_eq!(stream(&|o| o.base = Some(node("x"))), nowhere);
    let commit = |change: &dyn Fn(&mut CommitOptions)| {
        let mut options = CommitOptions { device: node("top"), ..CommitOptions::default() };
        change(&mut options);
        world.site.commit(&options, &common).unwrap_err().text
    };
    assert_eq!(commit(&|o| o.device = node("no")), "Device 'no' not found");
    assert_eq!(commit(&|o| o.device = node("base")), "Need a root block node");
    let itself = "cannot commit an image into itself";
    assert_eq!(commit(&|o| o.base_node = Some(node("top"))), itself);
    assert!(world.site.jobs.list().is_empty());
    // Nothing of all that is left behind.
    world.site.graph.remove("target").unwrap();
    world.site.graph.remove("small").unwrap();
}
