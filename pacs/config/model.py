"""
The model of the configuration: every key with its type, range, default and meaning.

`config/pacs_config.example.yaml` and `config/schema.json` are generated from it. Rooms do not read it: they are given
values by `pacs.application`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pacs.config.values import (
    AddressBlock,
    AETitle,
    CharacterSet,
    EventName,
    Host,
    NamingScheme,
    PasswordHash,
    Pattern,
    PeerPort,
    Port,
    ProviderURL,
    PublicURL,
    RoleName,
    TLSVersion,
    WebURL,
    is_number,
)


class Section(BaseModel):
    """A level of the configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """Python takes True for 1, and YAML yes for True."""
        if isinstance(value, bool) and is_number(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError("give a number, not yes or no")
        return value


class ServerTLS(Section):
    """TLS for associations (PS3.15 B.12, B.13)."""

    enabled: bool = Field(default=False, description="accept TLS associations")
    port: Port | None = Field(
        default=None, description="null: TLS on server.port alone; a number: there, beside plain TCP"
    )
    certificate: str = Field(default="/etc/pacs/server.pem", description="PEM chain")
    private_key: str = Field(default="/etc/pacs/server.key", description="PEM")
    private_key_password_file: str | None = Field(default=None, description="file with the key's passphrase")
    ca_certificate: str = Field(default="/etc/pacs/ca.pem", description="for client certificates and for outgoing TLS")
    require_client_cert: bool = Field(default=False, description="true: mutual TLS")
    crl: str | None = Field(default=None, description="certificate revocation list, PEM")
    min_version: TLSVersion = Field(default="1.2", description='"1.2" or "1.3"')
    profile: Literal["bcp195", "bcp195_modified"] = Field(
        default="bcp195", description="PS3.15 B.12, or B.13's closed list"
    )


class Limits(Section):
    """What a peer may ask of the server at most."""

    associate_pdu_bytes: int = Field(default=262144, ge=4096, le=1 << 20, description="A-ASSOCIATE PDU")
    command_set_bytes: int = Field(default=65536, ge=1024, le=1 << 20, description="command set, assembled")
    object_bytes: int = Field(default=4 << 30, ge=1 << 20, le=64 << 30, description="data set of a C-STORE")
    identifier_bytes: int = Field(default=1 << 20, ge=4096, le=16 << 20, description="identifier of a query")
    sequence_depth: int = Field(default=64, ge=1, le=256, description="nested sequences")
    sequence_items: int = Field(default=1_000_000, ge=1, le=100_000_000, description="sequence items of a data set")
    inflate_ratio: int = Field(default=100, ge=1, le=10_000, description="deflated data set, inflated against received")
    half_open_connections: int = Field(
        default=200, ge=1, le=10_000, description="connections that have not associated yet"
    )
    associations_per_address: int = Field(default=50, ge=1, le=10_000, description="associations from one address")
    fragment_timeout_seconds: float = Field(default=60, gt=0, le=3600, description="between fragments of one message")
    unread_response_seconds: float = Field(default=60, gt=0, le=3600, description="for a peer that does not read")
    connect_timeout_seconds: float = Field(default=10, gt=0, le=600, description="connecting to a remote node")
    association_timeout_seconds: float = Field(
        default=30, gt=0, le=600, description="for a remote node's answer to an association request"
    )
    response_timeout_seconds: float = Field(
        default=60, gt=0, le=3600, description="for a receiver's answer to a C-STORE that it has whole"
    )
    associations_per_remote_node: int = Field(
        default=4, ge=1, le=1000, description="with one remote node at once; who needs one more waits"
    )
    transcoding_processes: int = Field(default=2, ge=1, le=64, description="worker processes that decode images")
    transcoding_seconds: float = Field(default=120, gt=0, le=3600, description="for one object in another encoding")
    transcoding_memory_bytes: int = Field(
        default=2 << 30, ge=512 << 20, le=64 << 30, description="address space of such a process"
    )
    tls_handshake_seconds: float = Field(default=10, gt=0, le=600, description="TLS handshake")
    http_header_bytes: int = Field(default=16384, ge=1024, le=1 << 20, description="headers of an HTTP request")
    http_json_bytes: int = Field(default=1 << 20, ge=1024, le=64 << 20, description="JSON body of an HTTP request")
    http_connections: int = Field(default=200, ge=1, le=10_000, description="HTTP connections")


class RemoteNode(Section):
    """Another DICOM node."""

    ae_title: AETitle
    host: Host
    port: PeerPort
    tls: bool = False


def _unique_titles(nodes: tuple[RemoteNode, ...]) -> tuple[RemoteNode, ...]:
    titles: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if (first := titles.setdefault(node.ae_title, index)) != index:
            raise ValueError(f"nodes {first} and {index} have the same AE title, {node.ae_title}")
    return nodes


class Server(Section):
    """The DICOM side."""

    ae_title: AETitle = Field(default="PROD_PACS", description="1-16 characters, PS3.5 AE")
    interface: str = Field(default="127.0.0.1", description='address to listen on; 0.0.0.0 or "::" for all')
    port: Port = Field(default=11112, description="0: any free port")
    max_associations: int = Field(default=100, ge=1, le=10_000, description="further ones are rejected: local limit")
    max_associations_per_peer: int = Field(default=50, ge=1, le=10_000, description="the same of one calling AE title")
    idle_timeout_seconds: float = Field(
        default=300, gt=0, le=86_400, description="no DIMSE traffic for so long: A-ABORT"
    )
    artim_timeout_seconds: float = Field(default=30, gt=0, le=3600, description="PS3.8 ARTIM")
    shutdown_grace_seconds: float = Field(default=30, ge=0, le=3600, description="for running requests at the end")
    max_pdu_length: int = Field(default=131072, ge=4096, le=1048576, description="advertised to peers")
    accept_any_called_ae: bool = Field(default=False, description="false: a wrong called AE title is rejected")
    tls: ServerTLS = Field(default=ServerTLS(), description="TLS for associations")
    default_character_set: CharacterSet | None = Field(
        default=None, description="for data sets without (0008,0005); null: the default repertoire"
    )
    limits: Limits = Field(default=Limits(), description="what a peer may ask at most")
    remote_nodes: Annotated[tuple[RemoteNode, ...], AfterValidator(_unique_titles)] = Field(
        default=(RemoteNode(ae_title="WORKSTATION_1", host="127.0.0.1", port=11113),),
        description="C-MOVE destinations, storage-commitment and routing targets",
    )

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.tls.enabled and self.port and self.tls.port == self.port:
            raise ValueError("tls.port and port are the same; null has TLS alone on port")
        return self


class Database(Section):
    """The index."""

    path: str = Field(default="./pacs_data/index.db", description="embedded SQLite")
    url: SecretStr | None = Field(default=None, description="or postgresql://…: overrides path")


class S3(Section):
    """Objects in an S3 bucket."""

    endpoint_url: str | None = Field(default=None, description="of the service")
    bucket: str | None = Field(default=None, description="its name")
    prefix: str = Field(default="", description="in front of every key")
    region: str | None = Field(default=None, description="of the bucket")
    access_key_id: str | None = Field(default=None, description="who we are")
    secret_access_key_file: str | None = Field(default=None, description="file with the secret")


class Objects(Section):
    """Where objects are."""

    backend: Literal["filesystem", "s3"] = Field(default="filesystem", description="filesystem | s3")
    s3: S3 = Field(default=S3(), description="for the backend s3")


class Storage(Section):
    """The archive."""

    root_path: str = Field(default="./pacs_data", description="everything that is kept lies below it")
    naming_scheme: NamingScheme = Field(
        default="uid_hierarchical",
        description="uid_hierarchical (study/series/instance) | uid_flat | date_based (YYYY/MM/DD/study/instance)",
    )
    duplicate_policy: Literal["replace", "reject", "rename"] = Field(
        default="replace", description="same SOP Instance UID, other content: replace | reject | rename"
    )
    min_free_bytes: int = Field(default=1 << 30, ge=0, description="below it C-STORE answers A700, reads go on")
    warn_free_percent: float = Field(
        default=10, ge=0, le=50, description="with fewer free bytes or inodes health is degraded"
    )
    scrub_days: float = Field(
        default=30, ge=0, le=3650, description="each object is read against its SHA-256 once in so many days; 0: never"
    )
    database: Database = Field(default=Database(), description="the index")
    objects: Objects = Field(default=Objects(), description="where objects are")


class Grant(Section):
    """The first grant whose every condition matches decides."""

    role: RoleName
    ae_titles: tuple[Pattern, ...] = ()
    addresses: tuple[AddressBlock, ...] = ()
    certificate_names: tuple[Pattern, ...] = ()


class User(Section):
    """A user of user identity negotiation and HTTP Basic."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: RoleName
    password_hash: PasswordHash


def _unique_names(users: tuple[User, ...]) -> tuple[User, ...]:
    names = [user.name for user in users]
    if len(set(names)) < len(names):
        raise ValueError("two users have the same name")
    return users


class AccessControl(Section):
    """Roles."""

    enabled: bool = Field(default=True, description="false: every peer may do everything")
    default_role: RoleName = Field(default="viewer", description="viewer | technologist | administrator | none")
    grants: tuple[Grant, ...] = Field(
        default=(Grant(role="technologist", ae_titles=("CT_SCANNER_*", "MR_SCANNER_*", "STORESCU", "DCMSEND")),),
        description="the first grant whose every condition matches decides",
    )
    users: Annotated[tuple[User, ...], AfterValidator(_unique_names)] = Field(
        default=(), description="{name, role, password_hash}; made by 'pacsctl user add'"
    )
    passcodes_in_clear: bool = Field(
        default=False, description="true: verify the passcodes and tokens of user identity negotiation without TLS, too"
    )


class Anonymization(Section):
    """De-identification of incoming objects."""

    auto_anonymize: bool = Field(default=False, description="de-identify what arrives")
    profile: Literal["basic", "hipaa_safe_harbor", "retain_longitudinal", "retain_device_identity", "gdpr"] = Field(
        default="basic", description="basic | hipaa_safe_harbor | retain_longitudinal | retain_device_identity | gdpr"
    )
    vault_path: str | None = Field(default=None, description="pseudonym vault; default <root_path>/vault.db")
    uids: Literal["keep", "map"] | None = Field(default=None, description="keep | map; null: the profile decides")
    region_rules: str | None = Field(default=None, description="YAML file: per-device regions to blank")
    burned_in: Literal["reject", "clean", "accept"] = Field(
        default="reject", description="pixel data that may bear text"
    )
    ae_titles: tuple[str, ...] = Field(default=("*",), description="which calling AE titles it applies to")


class Security(Section):
    """Who may do what, and what is hidden."""

    access_control: AccessControl = Field(default=AccessControl(), description="roles")
    allowed_ae_titles: tuple[Pattern, ...] = Field(
        default=(), description="wildcards * and ?; empty: any calling AE title"
    )
    anonymization: Anonymization = Field(default=Anonymization(), description="de-identification")


class HTTPTLS(Section):
    """TLS for HTTP."""

    enabled: bool = Field(default=False, description="serve HTTPS")
    certificate: str | None = Field(default=None, description="PEM chain")
    private_key: str | None = Field(default=None, description="PEM")
    min_version: TLSVersion = Field(default="1.2", description='"1.2" or "1.3"')


class OIDC(Section):
    """OpenID Connect: tokens of an identity provider, over HTTP and as user identity of associations."""

    issuer: ProviderURL = Field(default=None, description="URL, exactly as the tokens have it; null: no such tokens")
    audience: str | None = Field(default=None, description="that the tokens must be meant for")
    roles_claim: str = Field(
        default="roles", min_length=1, description="where a token has its roles; realm_access.roles, for example"
    )
    jwks_url: ProviderURL = Field(default=None, description="where the keys are; null: the issuer's metadata say where")

    @model_validator(mode="after")
    def _has_audience(self) -> Self:
        if self.issuer is not None and not self.audience:
            raise ValueError("issuer needs an audience: else a token that was made for another service would do")
        return self


class Authentication(Section):
    """Who asks over HTTP."""

    enabled: bool = Field(default=True, description="false: everyone is an administrator")
    oidc: OIDC = Field(default=OIDC(), description="OpenID Connect")


class RestAPI(Section):
    """HTTP."""

    enabled: bool = Field(default=True, description="serve REST, DICOMweb and the web page")
    interface: str = Field(default="127.0.0.1", description="address to listen on")
    port: Port = Field(default=8080, description="0: any free port")
    cors_enabled: bool = Field(default=True, description="answer cross-origin requests")
    cors_origins: tuple[str, ...] = Field(default=(), description="empty: only localhost and 127.0.0.1")
    tls: HTTPTLS = Field(default=HTTPTLS(), description="TLS for HTTP")
    max_request_bytes: int = Field(default=4294967296, ge=1024, description="body of a request")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="names in the Host header, beside localhost, addresses and that of public_url"
    )
    trusted_proxies: tuple[AddressBlock, ...] = Field(
        default=(), description="CIDR blocks whose X-Forwarded-* headers count"
    )
    public_url: PublicURL | None = Field(default=None, description="base of the URLs in answers, behind a proxy")
    authentication: Authentication = Field(default=Authentication(), description="who asks")


class Monitoring(Section):
    """Health and metrics."""

    health_check_interval_seconds: float = Field(default=30, gt=0, le=3600, description="a fault shows within it")
    metrics_enabled: bool = Field(default=True, description="serve /metrics")


class Webhook(Section):
    """Where events are sent."""

    url: WebURL
    secret_file: str = Field(description="file with the key of the signatures")
    events: tuple[EventName, ...] = Field(default=(), description="names of events; none: all")


class Events(Section):
    """The change feed and webhooks."""

    retention_days: int = Field(default=30, ge=1, le=3650, description="of the change feed")
    webhooks: tuple[Webhook, ...] = Field(default=(), description="{url, secret_file, events}")

    @model_validator(mode="after")
    def _have_urls_of_their_own(self) -> Self:
        if len({webhook.url for webhook in self.webhooks}) < len(self.webhooks):
            raise ValueError("webhooks: a URL is given twice; name all its events in one entry")
        return self


class AuditSyslog(Section):
    """Where audit records are sent (RFC 5424 over UDP or TLS; PS3.15 A.6, A.7)."""

    host: Host
    port: PeerPort
    transport: Literal["udp", "tls"] = "udp"
    ca_certificate: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    spool_bytes: int = Field(default=256 << 20, ge=1 << 16, le=1 << 40)


class Logging(Section):
    """The log."""

    level: Literal["debug", "info", "warn", "error"] = Field(default="info", description="debug | info | warn | error")
    format: Literal["text", "json"] = Field(default="text", description="text | json")
    audit_log_path: str = Field(default="./pacs_data/audit.log", description="the audit log")
    audit_key_file: str | None = Field(
        default=None, description="key that seals the audit log; default <root_path>/audit.key; elsewhere is better"
    )
    audit_rotate_bytes: int = Field(
        default=256 << 20, ge=1 << 20, le=1 << 40, description="a longer audit log is put aside and a new one begun"
    )
    audit_reserve_bytes: int = Field(
        default=64 << 20, ge=0, le=1 << 40, description="disk space kept for the audit log when the disk is full"
    )
    audit_syslog: AuditSyslog | None = Field(
        default=None,
        description="{host, port, transport: udp|tls}; for tls: ca_certificate (null: server.tls.ca_certificate),"
        " certificate and private_key (to authenticate us), spool_bytes (sent later while the collector is away)",
    )


class Configuration(Section):
    """Everything."""

    server: Server = Field(default=Server(), description="the DICOM side")
    storage: Storage = Field(default=Storage(), description="the archive")
    security: Security = Field(default=Security(), description="who may do what")
    rest_api: RestAPI = Field(default=RestAPI(), description="HTTP")
    monitoring: Monitoring = Field(default=Monitoring(), description="health and metrics")
    events: Events = Field(default=Events(), description="the change feed and webhooks")
    logging: Logging = Field(default=Logging(), description="the log")

    def masked(self) -> dict[str, Any]:
        """Give it for people to read; secrets are masked."""
        return self.model_dump(mode="json")
