//! Passwords that people gave to `docker login` or `podman login`.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use super::Registry;
use super::endpoint::Endpoint;
use crate::error::{Error, Result};

/// A user's name and password.
pub(super) struct Password {
    pub(super) user: String,
    pub(super) password: String,
}

impl Registry<'_> {
    /// The password for a server: from `config.json` in the folder that the options name, else `$DOCKER_CONFIG`,
    /// else `~/.docker`, else podman's `auth.json`. `None` where there is none; then registries are asked anonymously.
    pub(super) fn password(&self, endpoint: &Endpoint) -> Result<Option<Password>> {
        for path in self.credential_files() {
            if let Some(password) = read(&path, endpoint)? {
                return Ok(Some(password));
            }
        }
        Ok(None)
    }

    fn credential_files(&self) -> Vec<PathBuf> {
        if let Some(folder) = &self.net.options().docker_config {
            return vec![folder.join("config.json")];
        }
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
        let podman = variable("REGISTRY_AUTH_FILE")
            .or_else(|| variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")));
        docker.map(|folder| folder.join("config.json")).into_iter().chain(podman).collect()
    }
}

fn read(path: &PathBuf, endpoint: &Endpoint) -> Result<Option<Password>> {
    use CredentialRetrievalError as E;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("reading the registry passwords in", path, error)),
    };
    let server = endpoint.credentials_key();
    let wrong = |why: &str| Error::usage(format!("the password for {server} in {}: {why}", path.display()));
    match get_credential_from_reader(io::BufReader::new(file), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some(Password { user, password })),
        Ok(DockerCredential::IdentityToken(_)) => {
            Err(wrong("it is an identity token, which only a browser login can renew")
                .hint(format!("log in with a user name and an access token: docker login -u USER {server}")))
        }
        Err(E::NoCredentialConfigured | E::ConfigNotFound) => Ok(None),
        // Helpers have no other way to say that they know nothing; the text is part of their protocol.
        Err(E::HelperFailure { stdout, .. }) if stdout.contains("credentials not found") => Ok(None),
        Err(E::HelperFailure { helper, stderr, .. }) => {
            // Not its standard output: that is where passwords are.
            let said = stderr.lines().next().unwrap_or_default();
            Err(wrong(&format!("the helper {helper} failed: {said}")))
        }
        Err(E::HelperCommunicationError) => Err(wrong("its credential helper cannot be run").hint(
            "install the docker-credential-... program that credsStore or credHelpers names, or remove the entry",
        )),
        Err(E::MalformedHelperResponse) => Err(wrong("its credential helper answered something else than a password")),
        Err(E::ConfigReadError) => Err(Error::usage(format!("{} is not what it should be: JSON", path.display()))),
        Err(E::CredentialDecodingError) => Err(wrong("the field \"auth\" is not USER:PASSWORD in base64")
            .hint(format!("log in again: docker login {server}"))),
        Err(E::CredentialMismatchError) => {
            Err(wrong("\"auth\" and \"username\"/\"password\" differ")
                .hint(format!("log in again: docker login {server}")))
        }
    }
}
