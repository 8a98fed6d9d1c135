//! As much of a `Cargo.toml` as the checks need.

/// A dependency of a crate.
#[derive(Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The package's name.
    pub name: String,
    /// Whether only tests use it.
    pub for_tests: bool,
}

/// One crate of the workspace.
#[derive(Debug, Default)]
pub struct Manifest {
    /// Its folder, relative to the root.
    pub folder: String,
    /// Its package name.
    pub name: String,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// It takes the workspace's licence.
    pub licensed: bool,
    /// It takes the workspace's lints.
    pub linted: bool,
}

impl Manifest {
    /// Reads the text of a manifest.
    pub fn parse(folder: &str, text: &str) -> Self {
        let mut manifest = Self { folder: folder.to_string(), ..Self::default() };
        let mut section = "";
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if let Some(head) = line.strip_prefix('[') {
                section = head.split(']').next().unwrap_or("");
                if let Some((kind, name)) = section.rsplit_once('.')
                    && let Some(for_tests) = kind_of(kind)
                {
                    manifest.dependencies.push(Dependency { name: name.into(), for_tests });
                }
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let (key, value) = (key.trim(), value.trim());
            match (section, key) {
                ("package", "name") => manifest.name = value.trim_matches('"').to_string(),
                ("package", "license.workspace") => manifest.licensed = value == "true",
                ("lints", "workspace") => manifest.linted = value == "true",
                _ => {
                    if let Some(for_tests) = kind_of(section) {
                        manifest
                            .dependencies
                            .push(Dependency { name: package_of(key, value), for_tests });
                    }
                }
            }
        }
        manifest
    }
}

/// Whether a section lists dependencies, and if so whether for tests.
fn kind_of(section: &str) -> Option<bool> {
    match section.rsplit('.').next()? {
        "dependencies" | "build-dependencies" if !section.starts_with("workspace") => Some(false),
        "dev-dependencies" => Some(true),
        _ => None,
    }
}

/// `name.workspace = true`, `name = "1"`, `alias = { package = "name", … }`.
fn package_of(key: &str, value: &str) -> String {
    let renamed = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
    let plain = key.split('.').next().unwrap_or(key);
    renamed.unwrap_or(plain).trim_matches('"').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_dependency_is_read() {
        let text = r#"
            [package]
            name = "x"
            license.workspace = true
            [dependencies]
            one.workspace = true
            two = { workspace = true, features = ["a"] }
            other = { package = "three", version = "1" }
            # not = "1"
            [target.'cfg(unix)'.dependencies]
            four = "1"
            [dev-dependencies]
            five = "1"
            [dependencies.six]
            version = "1"
            [lints]
            workspace = true
        "#;
        let manifest = Manifest::parse("base/x", text);
        let names: Vec<&str> = manifest.dependencies.iter().map(|each| &*each.name).collect();
        assert_eq!(names, ["one", "two", "three", "four", "five", "six"]);
        assert!(manifest.dependencies[4].for_tests && !manifest.dependencies[5].for_tests);
        assert!(manifest.licensed && manifest.linted);
    }
}
