//! Debian's docker-registry with TLS and a password file, and skopeo beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use moby::net::NetOptions;

/// Runs a tool; a missing one is a failure that says what to install.
pub fn run(package: &str, command: &mut Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{program} ({error}): apt-get install {package}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A running registry with its certificate; stops when dropped.
pub struct DebianRegistry {
    _process: Stop,
    pub folder: tempfile::TempDir,
    port: u16,
}

impl DebianRegistry {
    pub fn start() -> DebianRegistry {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        certificates(path);
        let users = run("apache2-utils", Command::new("htpasswd").args(["-Bbn", "me", "secret"]));
        fs::write(path.join("users"), users).unwrap();
        // The port is free now and, very likely, still free in a moment.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let at = path.display();
        fs::write(
            path.join("registry.yml"),
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {at}/data}}}}\n\
                 http: {{addr: '127.0.0.1:{port}', tls: {{certificate: {at}/server.crt, key: {at}/server.key}}}}\n\
                 auth: {{htpasswd: {{realm: it, path: {at}/users}}}}\n"
            ),
        )
        .unwrap();
        let process = Command::new("docker-registry")
            .args(["serve".as_ref(), path.join("registry.yml").as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry ({error}): apt-get install docker-registry"));
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        DebianRegistry { _process: Stop(process), folder, port }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Options that name the authority, and the password in a `config.json` of the registry's own folder.
    pub fn options(&self) -> NetOptions {
        let folder = self.folder.path().to_path_buf();
        // `me:secret` in base64.
        let config = serde_json::json!({"auths": {self.host(): {"auth": "bWU6c2VjcmV0"}}});
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
        NetOptions { cert_files: vec![self.authority()], docker_config: Some(folder), ..NetOptions::default() }
    }

    pub fn skopeo(&self, arguments: &[&str]) -> String {
        let certificates = self.folder.path().join("for-skopeo");
        fs::create_dir_all(&certificates).unwrap();
        fs::copy(self.authority(), certificates.join("ca.crt")).unwrap();
        let certificates = certificates.to_str().unwrap().to_string();
        let mut command = Command::new("skopeo");
        command.arg("--insecure-policy").args(&arguments[..1]);
        match arguments[0] {
            "copy" => command.args(["--src-cert-dir", &certificates, "--dest-cert-dir", &certificates]),
            _ => command.args(["--cert-dir", &certificates]),
        };
        run("skopeo", command.args(&arguments[1..]))
    }
}

/// An authority of our own and a server certificate for 127.0.0.1 signed by it.
pub fn certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| run("openssl", Command::new("openssl").current_dir(folder).args(arguments));
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"];
    let make = |arguments: &[&str]| openssl(&[["req"].as_slice(), arguments, key.as_slice()].concat());
    make(&["-x509", "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt"]);
    make(&["-subj", "/CN=server", "-keyout", "server.key", "-out", "server.csr"]);
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let sign =
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile names -out server.crt";
    openssl(&sign.split(' ').collect::<Vec<_>>());
}

/// A process that ends with the test.
pub struct Stop(pub Child);

impl Drop for Stop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
