//! qcow2 as a row of the table of formats: its options, and what the tools ask of it.

use std::sync::Arc;

use graph::{
    CheckReport, Fix, ImageOption, ImageOptions, Measured, Node, OpenError, Preallocation, Role,
    ValueKind,
};

use zeroize::Zeroizing;

use super::header::{CRYPT_AES, CRYPT_NONE, Reach};
use super::{Compression, CreateOptions, Encryption, Header, Options, Qcow2, create};
use crate::format::{CreateRequest, Format, MeasureRequest, OpenRequest, Purpose, Reference};
use crate::keys::Keys;
use crate::luks::{Parameters, passphrase};

/// The row of `qcow2` in the table of formats.
pub struct Qcow2Format;

const CREATE_OPTIONS: &[ImageOption] = &[
    ImageOption::new(
        "encryption",
        ValueKind::Switch,
        "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    ),
    ImageOption::new(
        "encrypt.format",
        ValueKind::Text,
        "Encrypt the image, format choices: 'aes', 'luks'",
    ),
    ImageOption::new(
        "encrypt.key-secret",
        ValueKind::Text,
        "ID of secret providing qcow AES key or LUKS passphrase",
    ),
    ImageOption::new("encrypt.cipher-alg", ValueKind::Text, "Name of encryption cipher algorithm"),
    ImageOption::new("encrypt.cipher-mode", ValueKind::Text, "Name of encryption cipher mode"),
    ImageOption::new("encrypt.ivgen-alg", ValueKind::Text, "Name of IV generator algorithm"),
    ImageOption::new(
        "encrypt.ivgen-hash-alg",
        ValueKind::Text,
        "Name of IV generator hash algorithm",
    ),
    ImageOption::new("encrypt.hash-alg", ValueKind::Text, "Name of encryption hash algorithm"),
    ImageOption::new(
        "encrypt.iter-time",
        ValueKind::Number,
        "Time to spend in PBKDF in milliseconds",
    ),
    ImageOption::with("cluster_size", ValueKind::Size, "65536", "qcow2 cluster size"),
    ImageOption::with("extended_l2", ValueKind::Switch, "off", "Extended L2 tables"),
    ImageOption::new(
        "preallocation",
        ValueKind::Text,
        "Preallocation mode (allowed values: off, metadata, falloc, full)",
    ),
    ImageOption::with(
        "compression_type",
        ValueKind::Text,
        "zlib",
        "Compression method used for image cluster compression",
    ),
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::new("compat", ValueKind::Text, "Compatibility level (v2 [0.10] or v3 [1.1])"),
    ImageOption::new("backing_file", ValueKind::Text, "File name of a base image"),
    ImageOption::new("backing_fmt", ValueKind::Text, "Image format of the base image"),
    ImageOption::new("data_file", ValueKind::Text, "File name of an external data file"),
    ImageOption::new(
        "data_file_raw",
        ValueKind::Switch,
        "The external data file must stay valid as a raw image",
    ),
    ImageOption::with("lazy_refcounts", ValueKind::Switch, "off", "Postpone refcount updates"),
    ImageOption::with(
        "refcount_bits",
        ValueKind::Number,
        "16",
        "Width of a reference count entry in bits",
    ),
];

const AMEND_OPTIONS: &[ImageOption] = &[
    ImageOption::new(
        "encrypt.state",
        ValueKind::Text,
        "Select new state of affected keyslots (active/inactive)",
    ),
    ImageOption::new(
        "encrypt.keyslot",
        ValueKind::Number,
        "Select a single keyslot to modify explicitly",
    ),
    ImageOption::new(
        "encrypt.old-secret",
        ValueKind::Text,
        "Select all keyslots that match this password",
    ),
    ImageOption::new(
        "encrypt.new-secret",
        ValueKind::Text,
        "New secret to set in the matching keyslots. Empty string to erase",
    ),
    ImageOption::new(
        "encrypt.iter-time",
        ValueKind::Number,
        "Time to spend in PBKDF in milliseconds",
    ),
    ImageOption::new("size", ValueKind::Size, "Virtual disk size"),
    ImageOption::new("compat", ValueKind::Text, "Compatibility level (v2 [0.10] or v3 [1.1])"),
    ImageOption::new("backing_file", ValueKind::Text, "File name of a base image"),
    ImageOption::new("backing_fmt", ValueKind::Text, "Image format of the base image"),
    ImageOption::new("data_file", ValueKind::Text, "File name of an external data file"),
    ImageOption::new(
        "data_file_raw",
        ValueKind::Switch,
        "The external data file must stay valid as a raw image",
    ),
    ImageOption::new("lazy_refcounts", ValueKind::Switch, "Postpone refcount updates"),
    ImageOption::new(
        "refcount_bits",
        ValueKind::Number,
        "Width of a reference count entry in bits",
    ),
];

/// Options of the driver that tune its caches or its checks; ours need no tuning.
const TUNING: &[&str] = &["cache-clean-interval", "overlap-check", "overlap-check.template"];

/// Refuses sizes of caches that contradict each other, in bytes; the size of an entry is for later.
fn cache_entry(keys: &mut Keys) -> Result<Option<u64>, OpenError> {
    let refuse = |text: String| Err(OpenError::Option(text));
    let whole = keys.take_size("cache-size")?;
    let parts = ["l2-cache-size", "refcount-cache-size"];
    let sizes = [keys.take_size(parts[0])?, keys.take_size(parts[1])?];
    if let (Some(_), [Some(_), Some(_)]) = (whole, sizes) {
        let text = "cache-size, l2-cache-size and refcount-cache-size may not be set at the same \
                    time";
        return refuse(text.to_owned());
    }
    for (name, size) in parts.iter().zip(sizes) {
        if size > whole.or(size) {
            return refuse(format!("{name} may not exceed cache-size"));
        }
    }
    keys.take_size("l2-cache-entry-size")
}

/// Switches of the driver that change nothing here.
const SWITCHES: &[&str] =
    &["lazy-refcounts", "pass-discard-snapshot", "pass-discard-other", "discard-no-unref"];

impl Format for Qcow2Format {
    fn name(&self) -> &'static str {
        "qcow2"
    }

    fn recognises(&self, start: &[u8], _path: &str) -> bool {
        start.starts_with(b"QFI\xfb\0\0\0\x02") || start.starts_with(b"QFI\xfb\0\0\0\x03")
    }

    fn has_backing(&self) -> bool {
        true
    }

    fn references(&self, file: &dyn Node, path: &str) -> Result<Vec<Reference>, OpenError> {
        let header = Header::read_within(file, path, Reach::Beyond)?;
        let external = header.external();
        let backing = header.backing_file.map(|name| Reference {
            role: Role::Backing,
            name,
            format: header.backing_format,
        });
        let data = header.data_file.filter(|_| external);
        let data = data.map(|name| Reference { role: Role::Data, name, format: None });
        Ok(data.into_iter().chain(backing).collect())
    }

    fn open(&self, mut request: OpenRequest<'_>) -> Result<Arc<dyn Node>, OpenError> {
        for key in TUNING {
            request.options.take(key);
        }
        for key in SWITCHES {
            request.options.take_bool(key)?;
        }
        let entry = cache_entry(request.options)?;
        let passphrase = passphrase_for(&mut request)?;
        let pass = request.options.take_bool("pass-discard-request")?.unwrap_or(request.discard);
        let options = Options {
            read_only: request.read_only,
            backing: request.child(Role::Backing),
            data_file: request.child(Role::Data),
            passphrase,
            purpose: request.purpose,
            pass_discards: pass,
            ..Options::default()
        };
        let image = Qcow2::open(request.file, request.path, options)?;
        let cluster = u64::from(image.info().cluster_size.unwrap_or_default());
        match entry {
            Some(size) if !size.is_power_of_two() || !(512..=cluster).contains(&size) => {
                Err(OpenError::Option(format!(
                    "L2 cache entry size must be a power of two between 512 and the cluster size \
                     ({cluster})"
                )))
            }
            _ => Ok(Arc::new(image)),
        }
    }

    fn create_options(&self) -> &'static [ImageOption] {
        CREATE_OPTIONS
    }

    fn create(&self, request: &CreateRequest<'_>) -> Result<(), OpenError> {
        let options = create_options(request.options)?;
        let how = preallocation(request.options, &options)?;
        let encryption = encryption(request.options)?;
        let passphrase = match &encryption {
            Some(_) => Some(passphrase(request.options, "encrypt.key-secret", request.secrets)?),
            None => None,
        };
        let fill = |file: Arc<dyn Node>, data: Option<Arc<dyn Node>>| {
            create(&file, request.path, &options)?;
            let open = |passphrase| {
                let file = Arc::clone(&file);
                let options = Options { data_file: data.clone(), passphrase, ..Options::default() };
                Qcow2::open(file, request.path, options)
            };
            if let (Some(encryption), Some(passphrase)) = (&encryption, &passphrase) {
                open(None)?.encrypt_new(encryption, passphrase)?;
            }
            if how == Preallocation::Off && data.is_none() {
                return Ok(());
            }
            open(passphrase.clone())?.fill_new(how).map_err(|source| {
                let operation = format!("{}: Could not preallocate", request.path);
                OpenError::Host { operation, source }
            })
        };
        request.with_file(request.path, 0, Preallocation::Off, |file| match &options.data_file {
            None => fill(file, None),
            Some(name) => {
                request.with_file(name, 0, Preallocation::Off, |data| fill(file, Some(data)))
            }
        })
    }

    fn amend_options(&self) -> &'static [ImageOption] {
        AMEND_OPTIONS
    }

    fn check(&self, request: OpenRequest<'_>, fix: Fix) -> Result<Option<CheckReport>, OpenError> {
        Qcow2::check_and_repair(&request.file, request.path, fix).map(Some)
    }

    fn measure(&self, request: &MeasureRequest<'_>) -> Result<Option<Measured>, OpenError> {
        super::measure::measure(request).map(Some)
    }
}

/// The passphrase that the options of an encrypted image name. Its format must be the image's.
fn passphrase_for(request: &mut OpenRequest<'_>) -> Result<Option<Zeroizing<Vec<u8>>>, OpenError> {
    let wanted = request.options.take("encrypt.format");
    let id = request.options.take("encrypt.key-secret");
    if wanted.is_none() && id.is_none() {
        return Ok(None);
    }
    let header = Header::read(&*request.file, request.path)?;
    let format = match header.crypt_method {
        CRYPT_NONE => {
            let wanted = wanted.map_or(String::new(), |wanted| format!(" '{wanted}'"));
            return Err(OpenError::Option(format!(
                "No encryption in image header, but options specified format{wanted}"
            )));
        }
        CRYPT_AES => "aes",
        _ => "luks",
    };
    if let Some(wanted) = wanted.filter(|wanted| wanted != format) {
        return Err(OpenError::Option(format!(
            "Header reported '{format}' encryption format but options specify '{wanted}'"
        )));
    }
    let secret = id.map(|id| request.secrets.secret(&id).map(Zeroizing::new)).transpose();
    // Who only looks at metadata needs none.
    if request.purpose == Purpose::Info { Ok(secret.unwrap_or(None)) } else { secret }
}

/// How a new image is encrypted, if it is.
fn encryption(options: &ImageOptions) -> Result<Option<Encryption>, OpenError> {
    let old = options.switch("encryption");
    let refuse = |text: &str| Err(OpenError::Option(text.to_owned()));
    match options.text("encrypt.format") {
        Some(_) if old => {
            refuse("'encrypt.format' and its alias 'encryption' can't be used at the same time")
        }
        Some("luks") => Parameters::parse(options, "encrypt.").map(Encryption::Luks).map(Some),
        Some("aes") => Ok(Some(Encryption::Aes)),
        Some(other) => refuse(&format!("Parameter 'format' does not accept value '{other}'")),
        None if old => Ok(Some(Encryption::Aes)),
        None if options.is_set("encrypt.key-secret") => {
            refuse("Parameter 'encrypt.format' is missing")
        }
        None => Ok(None),
    }
}

/// The preallocation mode of a new image.
fn preallocation(
    options: &ImageOptions,
    create: &CreateOptions,
) -> Result<Preallocation, OpenError> {
    let name = options.text("preallocation").unwrap_or("off");
    let Some(how) = Preallocation::named(name) else {
        let text = format!("Parameter 'preallocation' does not accept value '{name}'");
        return Err(OpenError::Option(text));
    };
    if how != Preallocation::Off && create.backing_file.is_some() && !create.extended_l2 {
        let text = "Backing file and preallocation can only be used at the same time if \
                    extended_l2 is on";
        return Err(OpenError::Option(text.to_owned()));
    }
    // A raw data file has all its clusters in place.
    let raw = create.data_file_raw && how == Preallocation::Off;
    Ok(if raw { Preallocation::Metadata } else { how })
}

/// What the options say about a new image.
fn create_options(options: &ImageOptions) -> Result<CreateOptions, OpenError> {
    let refuse = |text: String| Err(OpenError::Option(text));
    let version = match options.text("compat").unwrap_or("1.1") {
        "0.10" | "v2" => 2,
        "1.1" | "v3" => 3,
        other => return refuse(format!("Parameter 'version' does not accept value '{other}'")),
    };
    let compression = match options.text("compression_type").unwrap_or("zlib") {
        "zlib" => Compression::Zlib,
        "zstd" => Compression::Zstd,
        other => {
            return refuse(format!("Parameter 'compression-type' does not accept value '{other}'"));
        }
    };
    let backing_file = options.text("backing_file").filter(|name| !name.is_empty());
    let backing_format = options.text("backing_fmt");
    if backing_format.is_some() && backing_file.is_none() {
        return refuse("Backing format cannot be used without backing file".to_owned());
    }
    let base = CreateOptions::new(options.number("size").unwrap_or(0));
    let refcount_bits = options.number("refcount_bits").unwrap_or(16);
    Ok(CreateOptions {
        version,
        cluster_size: options.number("cluster_size").unwrap_or(base.cluster_size),
        refcount_bits: u32::try_from(refcount_bits).unwrap_or(u32::MAX),
        lazy_refcounts: options.switch("lazy_refcounts"),
        extended_l2: options.switch("extended_l2"),
        compression,
        backing_file: backing_file.map(str::to_owned),
        backing_format: backing_format.map(str::to_owned),
        data_file: options.text("data_file").map(str::to_owned),
        data_file_raw: options.switch("data_file_raw"),
        ..base
    })
}
