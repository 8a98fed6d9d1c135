//! Background jobs.

use crate::daemon::{Answer, Daemon, done, refusal, refused};
use crate::views;
use formats::{HostFiles, Target, open_target};
use graph::Member;
use jobs::Jobs;
use jobs::job::{OnError, Refusal};
use jobs::site::{
    BackupOptions, BackupSync, BitmapMode, CommitOptions, Common, CopyMode, MirrorOptions,
    MirrorSync, OnCopyError, StreamOptions, backing_of,
};
use qmp::{Arguments, Command, Error};
use std::sync::Arc;

pub(crate) static COMMANDS: &[Command<Daemon>] = &[
    Command {
        name: "query-jobs",
        run: |d, _| Ok(d.site.jobs.list().iter().map(views::job).collect()),
    },
    Command { name: "query-block-jobs", run: query_block_jobs },
    Command { name: "job-pause", run: |d, a| verb(d, a, "id", Jobs::pause) },
    Command { name: "job-resume", run: |d, a| verb(d, a, "id", Jobs::resume) },
    Command { name: "job-cancel", run: |d, a| verb(d, a, "id", |jobs, id| jobs.cancel(id, true)) },
    Command { name: "job-complete", run: |d, a| verb(d, a, "id", Jobs::complete) },
    Command { name: "job-finalize", run: |d, a| verb(d, a, "id", Jobs::finalize) },
    Command { name: "job-dismiss", run: |d, a| verb(d, a, "id", Jobs::dismiss) },
    Command { name: "block-job-pause", run: |d, a| block_verb(d, a, "device", Jobs::pause) },
    Command { name: "block-job-resume", run: |d, a| block_verb(d, a, "device", Jobs::resume) },
    Command { name: "block-job-complete", run: |d, a| block_verb(d, a, "device", Jobs::complete) },
    Command { name: "block-job-finalize", run: |d, a| block_verb(d, a, "id", Jobs::finalize) },
    Command { name: "block-job-dismiss", run: |d, a| block_verb(d, a, "id", Jobs::dismiss) },
    Command { name: "block-job-cancel", run: block_job_cancel },
    Command { name: "block-job-set-speed", run: set_speed },
    Command { name: "block-job-change", run: change },
    Command { name: "blockdev-mirror", run: |d, a| mirror(d, a).and_then(|()| done()) },
    Command { name: "blockdev-backup", run: |d, a| backup(d, a, &common(a)).and_then(|()| done()) },
    Command { name: "drive-mirror", run: |d, a| drive_mirror(d, a).and_then(|()| done()) },
    Command {
        name: "drive-backup",
        run: |d, a| drive_backup(d, a, &common(a)).and_then(|()| done()),
    },
    Command { name: "block-stream", run: |d, a| stream(d, a).and_then(|()| done()) },
    Command { name: "block-commit", run: |d, a| commit(d, a).and_then(|()| done()) },
];

type Verb = fn(&Jobs, &str) -> Result<(), Refusal>;

fn verb(daemon: &Daemon, arguments: &Arguments, key: &str, verb: Verb) -> Answer {
    verb(&daemon.site.jobs, arguments.text(key)).map_err(refusal)?;
    done()
}

/// The older commands, which know block jobs only.
fn block_verb(daemon: &Daemon, arguments: &Arguments, key: &str, act: Verb) -> Answer {
    daemon.site.jobs.check_block_job(arguments.text(key)).map_err(refusal)?;
    verb(daemon, arguments, key, act)
}

fn query_block_jobs(daemon: &Daemon, _: &Arguments) -> Answer {
    let jobs = daemon.site.jobs.list();
    Ok(jobs.iter().filter(|job| job.kind.is_block_job()).map(views::block_job).collect())
}

fn block_job_cancel(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let force = arguments.switch("force").unwrap_or(false);
    daemon.site.jobs.block_job_cancel(arguments.text("device"), force).map_err(refusal)?;
    done()
}

fn set_speed(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let device = arguments.text("device");
    daemon.site.jobs.check_block_job(device).map_err(refusal)?;
    let speed = arguments.int("speed").unwrap_or(0);
    daemon.site.jobs.set_speed(device, speed).map_err(refusal)?;
    done()
}

fn change(daemon: &Daemon, arguments: &Arguments) -> Answer {
    let id = arguments.text("id");
    daemon.site.jobs.check_block_job(id).map_err(refusal)?;
    let along = arguments.text("copy-mode") == "write-blocking";
    daemon.site.jobs.change_copy_mode(id, along).map_err(refusal)?;
    done()
}

/// What all jobs are told. Without a name, a job is called as its device.
pub(crate) fn common(arguments: &Arguments) -> Common {
    Common {
        id: arguments.text_if("job-id").map(str::to_owned),
        speed: arguments.int("speed").unwrap_or(0),
        auto_finalize: arguments.switch("auto-finalize").unwrap_or(true),
        auto_dismiss: arguments.switch("auto-dismiss").unwrap_or(true),
        filter_node_name: owned(arguments, "filter-node-name"),
        ..Common::default()
    }
}

fn owned(arguments: &Arguments, key: &str) -> Option<String> {
    arguments.text_if(key).map(str::to_owned)
}

fn on_error(arguments: &Arguments, key: &str) -> OnError {
    choose(arguments, key, OnError::TABLE)
}

/// The choice that a word stands for; the schema has refused other words.
fn choose<T: Copy + Default>(arguments: &Arguments, key: &str, table: &[(&str, T)]) -> T {
    let word = arguments.text_if(key);
    let row = table.iter().find(|(name, _)| Some(*name) == word);
    row.map(|(_, choice)| *choice).unwrap_or_default()
}

fn mirror(daemon: &Daemon, arguments: &Arguments) -> Result<(), Error> {
    mirror_to(daemon, arguments, arguments.text("target"))
}

fn mirror_to(daemon: &Daemon, arguments: &Arguments, target: &str) -> Result<(), Error> {
    let sync = [("full", MirrorSync::Full), ("top", MirrorSync::Top), ("none", MirrorSync::None)];
    let mode = [("background", CopyMode::Background), ("write-blocking", CopyMode::WriteBlocking)];
    let word = arguments.text("sync");
    if !sync.iter().any(|(name, _)| *name == word) {
        return Err(Error::new(format!("Sync mode '{word}' not supported")));
    }
    let options = MirrorOptions {
        device: arguments.text("device").to_owned(),
        target: target.to_owned(),
        sync: choose(arguments, "sync", &sync),
        replaces: owned(arguments, "replaces"),
        keep_zeroes: arguments.switch("unmap") == Some(false),
        granularity: arguments.size("granularity").and_then(|n| u32::try_from(n).ok()),
        buf_size: arguments.int("buf-size").unwrap_or(0),
        copy_mode: choose(arguments, "copy-mode", &mode),
        on_source_error: on_error(arguments, "on-source-error"),
        on_target_error: on_error(arguments, "on-target-error"),
    };
    daemon.site.mirror(&options, &common(arguments)).map_err(refusal)
}

/// Makes or opens the image that a job writes to. It goes with its last user.
fn target(daemon: &Daemon, arguments: &Arguments) -> Result<Arc<Member>, Error> {
    let source = daemon.node(arguments.text("device"))?;
    let existing = arguments.text("mode") == "existing";
    let info = source.node().info();
    let backing = match arguments.text("sync") {
        // What the job does not copy is read through the backing file.
        "top" => {
            let below = daemon.graph().facts(&source).backing;
            let below = below.and_then(|(name, file)| Some((daemon.graph().named(&name)?, file)));
            below.map(|(member, file)| (file, member.node().info().driver))
        }
        "none" => Some((info.filename.clone(), info.driver)),
        _ => None,
    };
    let format = arguments.text_if("format").or((!existing).then_some(info.driver));
    let (path, size) = (arguments.text("target"), source.node().size());
    let node_name = arguments.text_if("node-name");
    let target = Target { path, format, existing, size, backing, node_name };
    let made = open_target(&target, &HostFiles, daemon.graph(), &daemon.objects.held());
    let made = made.map_err(refused)?;
    let below = match arguments.text("sync") {
        "top" => backing_of(&source),
        "none" => Some(source),
        _ => None,
    };
    if let Some(below) = below.filter(|_| !existing) {
        // It may take the source's place: what was not copied shows through.
        daemon.graph().set_backing(&made, Some(&below)).map_err(refused)?;
    }
    Ok(made)
}

fn drive_mirror(daemon: &Daemon, arguments: &Arguments) -> Result<(), Error> {
    let target = target(daemon, arguments)?;
    mirror_to(daemon, arguments, target.name())
}

/// `drive-backup`, alone or in a transaction.
pub(crate) fn drive_backup(
    daemon: &Daemon,
    arguments: &Arguments,
    common: &Common,
) -> Result<(), Error> {
    let target = target(daemon, arguments)?;
    backup_to(daemon, arguments, common, target.name())
}

/// `blockdev-backup`, alone or in a transaction.
pub(crate) fn backup(daemon: &Daemon, arguments: &Arguments, common: &Common) -> Result<(), Error> {
    backup_to(daemon, arguments, common, arguments.text("target"))
}

fn backup_to(
    daemon: &Daemon,
    arguments: &Arguments,
    common: &Common,
    target: &str,
) -> Result<(), Error> {
    let sync = [
        ("full", BackupSync::Full),
        ("top", BackupSync::Top),
        ("incremental", BackupSync::Incremental),
        ("bitmap", BackupSync::Bitmap),
        ("none", BackupSync::None),
    ];
    let mode = [
        ("on-success", Some(BitmapMode::OnSuccess)),
        ("never", Some(BitmapMode::Never)),
        ("always", Some(BitmapMode::Always)),
    ];
    let copy = [
        ("break-guest-write", OnCopyError::BreakGuestWrite),
        ("break-snapshot", OnCopyError::BreakSnapshot),
    ];
    let perf = arguments.object("x-perf");
    let options = BackupOptions {
        device: arguments.text("device").to_owned(),
        target: target.to_owned(),
        sync: choose(arguments, "sync", &sync),
        bitmap: owned(arguments, "bitmap"),
        bitmap_mode: choose(arguments, "bitmap-mode", &mode),
        compress: arguments.switch("compress").unwrap_or(false),
        on_source_error: on_error(arguments, "on-source-error"),
        on_target_error: on_error(arguments, "on-target-error"),
        on_copy_error: choose(arguments, "on-cbw-error", &copy),
        max_workers: perf.int("max-workers"),
        max_chunk: perf.int("max-chunk"),
        discard_source: arguments.switch("discard-source").unwrap_or(false),
    };
    daemon.site.backup(&options, common).map_err(refusal)
}

fn stream(daemon: &Daemon, arguments: &Arguments) -> Result<(), Error> {
    let options = StreamOptions {
        device: arguments.text("device").to_owned(),
        base: owned(arguments, "base"),
        base_node: owned(arguments, "base-node"),
        bottom: owned(arguments, "bottom"),
        backing_file: owned(arguments, "backing-file"),
        on_error: on_error(arguments, "on-error"),
    };
    daemon.site.stream(&options, &common(arguments)).map_err(refusal)
}

fn commit(daemon: &Daemon, arguments: &Arguments) -> Result<(), Error> {
    let options = CommitOptions {
        device: arguments.text("device").to_owned(),
        base: owned(arguments, "base"),
        base_node: owned(arguments, "base-node"),
        top: owned(arguments, "top"),
        top_node: owned(arguments, "top-node"),
        backing_file: owned(arguments, "backing-file"),
        on_error: on_error(arguments, "on-error"),
    };
    daemon.site.commit(&options, &common(arguments)).map_err(refusal)
}
