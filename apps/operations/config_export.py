"""Making a `config.xml` for an organization group, with a secure channel key of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from django.conf import settings
from django.db import transaction

from apps.audit import service as audit
from apps.cns import keys
from apps.cns.models import SecureChannelKey
from apps.cns.site import CnsNotConfigured, current_site
from apps.operations import secure_channel
from apps.operations.config_xml import ConfigRefused, Configuration, check_password, seal
from apps.operations.device_actions import By
from apps.tenants.models import OrganizationGroup


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was made. Where `registered` is False the relay's operator needs the certificate.

    `relay_deployment add --certificate <file>` registers it there.
    """

    xml: bytes = field(repr=False)
    thumbprint: str
    certificate: str
    registered: bool


def export(
    og: OrganizationGroup,
    password: str,
    by: By,
    *,
    with_master_key: bool = False,
    register: bool = True,
) -> Download:
    """Make a `config.xml` for a group, with a secure channel key of its own; audited.

    `register`: let a relay beside us know the key at once. It may then push to all apps of the
    deployment, so that is for those who answer for the whole of it.

    Raises:
        ConfigRefused: `password_weak` or `cns_url_missing`.
        OSError: the master key file can't be read.
    """
    check_password(password, og.name)
    try:
        site = current_site()
    except CnsNotConfigured as error:
        raise ConfigRefused("cns_url_missing", f"{error}: there is no CNS to name") from None
    ens = settings.ENS
    further = {}
    if with_master_key:
        further = {
            "link_address": ens.link_address,
            "secret_key": ens.secret_key.get_secret_value(),
            "master_key": ens.master_key_file.read_text("utf-8-sig"),
        }
    with transaction.atomic():
        row, private = keys.make(_label(og.name), SecureChannelKey.Use.EXPORTED)
        registered = register and secure_channel.register_beside(row)
        content = Configuration(
            og_guid=og.guid,
            og_name=og.name,
            cns_url=site.url,
            cns_pins=site.pins,
            key_label=row.label,
            thumbprint=row.thumbprint,
            certificate=row.certificate,
            private_key=private.decode("ascii"),
            registered=registered,
            **further,
        )
        audit.record(
            actor=by.actor,
            action="config.download",
            target=f"config.xml of {og.name}",
            og_path=og.path,
            before=None,
            after={
                "thumbprint": row.thumbprint,
                "registered": registered,
                "with_the_master": with_master_key,
            },
            address=by.address,
        )
    return Download(seal(content, password), row.thumbprint, row.certificate, registered)


def _label(og_name: str) -> str:
    """A label for the key: the group's name, cut to what a certificate's common name may be."""
    plain = re.sub(r"[^\w .()-]", "", og_name)[:40].strip(" .-") or "group"
    return f"config.xml for {plain}"
