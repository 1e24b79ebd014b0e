"""
What a configuration allows and an operator may not have meant: said at the start, each with what to set.
"""

from __future__ import annotations

from ipaddress import ip_address

from pacs.config.model import AccessControl, Configuration


def is_loopback(interface: str) -> bool:
    """Whether an address to listen on is reachable from this machine alone."""
    if interface == "localhost":
        return True
    try:
        return ip_address(interface.partition("%")[0]).is_loopback
    except ValueError:
        return False


def advice(configuration: Configuration) -> list[str]:
    """Give a warning for each choice that opens the archive further than is usual."""
    server, security = configuration.server, configuration.security
    control, tls = security.access_control, configuration.server.tls
    warnings: list[str] = []
    if not control.enabled:
        warnings.append("security.access_control.enabled is false: every peer may do everything")
    has_mutual_tls = tls.enabled and tls.require_client_cert and tls.port is None
    if not is_loopback(server.interface):
        if control.enabled and control.grants == AccessControl().grants:
            warnings.append(
                f"server.interface is {server.interface} and the built-in grants are in force, by which anybody may "
                "store who calls itself STORESCU; set security.access_control.grants"
            )
        if not security.allowed_ae_titles and not has_mutual_tls:
            warnings.append(
                f"server.interface is {server.interface} and any AE title may associate; set "
                "security.allowed_ae_titles, or mutual TLS: server.tls.enabled and server.tls.require_client_cert"
            )
    rest = configuration.rest_api
    if rest.enabled and not is_loopback(rest.interface):
        if not rest.authentication.enabled:
            warnings.append(f"rest_api.interface is {rest.interface} and everyone there is an administrator")
        if not (rest.tls.enabled or rest.trusted_proxies):
            warnings.append(
                f"rest_api.interface is {rest.interface} and HTTP is not encrypted: tokens, passwords and patient data "
                "can be read on the network; set rest_api.tls, or rest_api.trusted_proxies for a proxy that does it"
            )
    if not (tls.enabled and tls.require_client_cert) and any(grant.certificate_names for grant in control.grants):
        warnings.append(
            "security.access_control.grants: certificate_names match nobody without server.tls.require_client_cert"
        )
    if control.users and control.passcodes_in_clear:
        warnings.append("security.access_control.passcodes_in_clear is true: passcodes can be read on the network")
    return warnings
