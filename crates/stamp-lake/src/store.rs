//! Opens the object store a configuration names, with the store's own retries off.

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    ClientOptions, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, RetryConfig,
};
use url::Url;

use crate::LakeError;
use crate::config::{Credential, Place, StoreConfig, wrong};
use crate::http::AnswerConnector;

/// Names the file with the token of a workload identity.
const TOKEN_FILE_VARIABLE: &str = "AZURE_FEDERATED_TOKEN_FILE";

impl StoreConfig {
    /// Whether the files are there that the process itself needs, for its start: a token file that
    /// is missing then was not mounted and will not come. A configuration can be good without them,
    /// on another machine. Its content changes while the process runs and is not kept.
    ///
    /// # Errors
    /// [`LakeError::Config`] with the key, the variable and the file.
    pub fn check_token_file(&self) -> std::result::Result<(), LakeError> {
        if !self.workload_identity {
            return Ok(());
        }
        let path = identity_env(TOKEN_FILE_VARIABLE)?;
        match secret_file("workload-identity", FilePath::new(&path)) {
            Err(LakeError::Config { key, reason }) => {
                Err(wrong(key, format!("{TOKEN_FILE_VARIABLE}: {reason}")))
            }
            other => other.map(drop),
        }
    }
}

/// A store and the URL of the lake's root in it. The URL's path is the key prefix in the store.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) root: Url,
}

pub(crate) fn open(config: &StoreConfig) -> std::result::Result<Opened, LakeError> {
    config.validate()?;
    match config.place()? {
        Place::Folder(folder) => open_folder(&folder),
        Place::Memory => Ok(Opened {
            store: Arc::new(InMemory::new()),
            root: root_url("memory:///", "")?,
        }),
        Place::Azure {
            account,
            container,
            prefix,
        } => Ok(Opened {
            store: open_azure(config, &account, &container)?,
            root: root_url(&format!("az://{container}/"), &prefix)?,
        }),
    }
}

fn open_folder(folder: &FilePath) -> std::result::Result<Opened, LakeError> {
    let root = Url::from_directory_path(folder)
        .map_err(|()| wrong("url", "must be file:/// and an absolute folder"))?;
    Ok(Opened {
        store: Arc::new(LocalFileSystem::new()),
        root,
    })
}

fn root_url(base: &str, prefix: &str) -> std::result::Result<Url, LakeError> {
    let mut url = Url::parse(base).map_err(|error| wrong("url", error.to_string()))?;
    if !prefix.is_empty() {
        url.set_path(&format!("/{prefix}/"));
    }
    Ok(url)
}

fn open_azure(
    config: &StoreConfig,
    account: &str,
    container: &str,
) -> std::result::Result<Arc<dyn ObjectStore>, LakeError> {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(container)
        // The library repeats writes whose answer was lost and then reports our own object as
        // somebody else's. The program's one retry layer reads back instead.
        .with_retry(RetryConfig {
            max_retries: 0,
            ..RetryConfig::default()
        })
        .with_http_connector(AnswerConnector);
    let mut options = ClientOptions::new()
        .with_timeout(config.request_timeout)
        .with_user_agent(object_store::HeaderValue::from_static(concat!(
            "stampworks/",
            env!("CARGO_PKG_VERSION")
        )));
    let endpoint = config.endpoint_url()?;
    if let Some(endpoint) = &endpoint {
        options = options.with_allow_http(endpoint.scheme() == "http");
        builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned());
    }
    builder = with_credential(builder.with_client_options(options), &config.credential()?)?;
    let azure = builder
        .build()
        .map_err(|error| wrong("url", error.to_string()))?;
    // An account in the path means Azurite, which ignores where a listing should start.
    let in_path = endpoint.is_some_and(|endpoint| endpoint.path().trim_matches('/') == account);
    Ok(if in_path {
        Arc::new(ListFromHere(azure))
    } else {
        Arc::new(azure)
    })
}

fn with_credential(
    builder: MicrosoftAzureBuilder,
    credential: &Credential<'_>,
) -> std::result::Result<MicrosoftAzureBuilder, LakeError> {
    Ok(match credential {
        Credential::KeyEnv(name) => builder.with_access_key(secret_env("account-key-env", name)?),
        Credential::KeyFile(path) => {
            builder.with_access_key(secret_file("account-key-file", path)?)
        }
        Credential::SasEnv(name) => {
            let token = secret_env("sas-env", name)?;
            let query = token.trim_start_matches('?').to_owned();
            builder.with_config(AzureConfigKey::SasKey, query)
        }
        Credential::WorkloadIdentity => builder
            .with_client_id(identity_env("AZURE_CLIENT_ID")?)
            .with_tenant_id(identity_env("AZURE_TENANT_ID")?)
            .with_federated_token_file(identity_env(TOKEN_FILE_VARIABLE)?),
        Credential::ManagedIdentity => match std::env::var("AZURE_CLIENT_ID") {
            Ok(id) if !id.is_empty() => builder.with_client_id(id),
            _ => builder,
        },
    })
}

fn identity_env(name: &str) -> std::result::Result<String, LakeError> {
    secret_env("workload-identity", name)
}

fn secret_env(key: &'static str, name: &str) -> std::result::Result<String, LakeError> {
    match std::env::var(name) {
        Ok(value) if !value.trim().is_empty() => Ok(value.trim().to_owned()),
        _ => Err(wrong(
            key,
            format!("environment variable {name} is not set"),
        )),
    }
}

fn secret_file(key: &'static str, path: &FilePath) -> std::result::Result<String, LakeError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong(key, format!("cannot read {}: {error}", path.display())))?;
    if text.trim().is_empty() {
        return Err(wrong(key, format!("{} is empty", path.display())));
    }
    Ok(text.trim().to_owned())
}

/// A store that ignores the start of a listing: what lies before it is dropped here.
#[derive(Debug)]
struct ListFromHere<S>(S);

impl<S: ObjectStore> fmt::Display for ListFromHere<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[async_trait]
impl<S: ObjectStore> ObjectStore for ListFromHere<S> {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let offset = offset.clone();
        self.0
            .list(prefix)
            .try_filter(move |meta| std::future::ready(meta.location > offset))
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
