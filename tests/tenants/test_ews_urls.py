"""Addresses of mail servers are read strictly: what could be read in two ways is refused."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.tenants.ews_urls import EwsUrlRefused, normal_host, normal_url, refuse_special_address


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        (
            "https://mail.example.com/EWS/Exchange.asmx",
            "https://mail.example.com/EWS/Exchange.asmx",
        ),
        ("HTTPS://Mail.Example.COM/EWS/", "https://mail.example.com/EWS/"),
        ("https://mail.example.com", "https://mail.example.com/"),
        ("https://mail.example.com:443/x", "https://mail.example.com/x"),
        ("https://mail.example.com:8443/x", "https://mail.example.com:8443/x"),
        ("https://bücher.example/x", "https://xn--bcher-kva.example/x"),
        ("https://XN--BCHER-KVA.example/x", "https://xn--bcher-kva.example/x"),
        ("https://exchange01/x", "https://exchange01/x"),
        ("https://10.1.2.3/x", "https://10.1.2.3/x"),
        ("https://[2001:DB8:0::1]:444/x", "https://[2001:db8::1]:444/x"),
    ],
)
def test_good_addresses_get_one_form(url: str, normal: str) -> None:
    host, whole = normal_url(url)
    assert whole == normal
    assert whole.startswith(f"https://{host}/")


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://mail.example.com/", "ews_url_scheme"),
        ("//mail.example.com/", "ews_url_scheme"),
        ("mail.example.com", "ews_url_scheme"),
        ("file:///etc/passwd", "ews_url_scheme"),
        ("", "ews_url_scheme"),
        ("https://user@mail.example.com/", "ews_url_userinfo"),
        ("https://mail.example.com:pw@evil.example/", "ews_url_userinfo"),
        ("https://mail.example.com#@evil.example", "ews_url_userinfo"),
        *(
            (url, "ews_url_malformed")
            for url in (
                "https://",
                "https:///x",
                "https://mail.example.com\\@evil.example/",
                "https://mail.example.com\\.evil.example/",
                "https:\\\\mail.example.com/",
                " https://mail.example.com/",
                "https://mail.example.com/\n",
                "https://mail.exa\tmple.com/",
                "https://mail.example.com./",
                "https://.mail.example.com/",
                "https://mail..example.com/",
                "https://mail.example.com。/",
                "https://mail_x.example.com/",
                "https://-mail.example.com/",
                "https://*.example.com/",
                "https://mail%2eexample.com/",
                "https://mail.example.com%00.evil.example/",
                "https://mail.example.com:/",
                "https://mail.example.com:0/",
                "https://mail.example.com:0443/",
                "https://mail.example.com:65536/",
                "https://mail.example.com:443:443/",
                "https://mail.example.com:٤٤٣/",
                "https://mail.example.com?x",
                "https://mail.example.com/x?y=z",
                "https://mail.example.com/x#y",
                "https://mail.example.com/a/../b",
                "https://mail.example.com/%2e%2e/b",
                "https://2130706433/",
                "https://0x7f000001/",
                "https://0x7f.0.0.1/",
                "https://0x/",
                "https://0177.0.0.1/",
                "https://127.1/",
                "https://127.0.0.256/",
                "https://127.0.0.1.5/",
                "https://①27.0.0.1/",
                "https://127。0。0。1/",
                "https://mail.example.123/",
                "https://[::1/",
                "https://::1/",
                "https://[fe80::1%25eth0]/",
                "https://[mail.example.com]/",
                "https://xn--a.example/",
                "https://" + "a" * 64 + ".example/",
                "https://" + "a." * 130 + "example/",
                "https://mail.example.com/" + "a" * 1000,
            )
        ),
    ],
)
def test_odd_addresses_are_refused(url: str, code: str) -> None:
    with pytest.raises(EwsUrlRefused) as refused:
        normal_url(url)
    assert refused.value.code == code
    assert str(refused.value) == code


@given(st.text(st.sampled_from("htps:/.@\\[]%?#0127fx:ab-é。 ")))
def test_whatever_passes_is_read_alike_by_the_standard_library(tail: str) -> None:
    try:
        host, whole = normal_url("https://" + tail)
    except EwsUrlRefused:
        return
    parts = urlsplit(whole)
    assert parts.netloc == host
    assert whole.isascii() and (parts.username, parts.query, parts.fragment) == (None, "", "")


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8443",
        "a.localhost",
        "127.0.0.1",
        "127.8.9.10:8443",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "[::1]",
        "[::]:8443",
        "[fe80::1]",
        "[ff02::1]",
        "[::ffff:10.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::a00:1]",
        "[2002:a00:1::]",
        "[2001:0:1::1]",
    ],
)
def test_special_addresses_are_refused_unless_they_are_exceptions(host: str) -> None:
    normal = normal_host(host)
    with pytest.raises(EwsUrlRefused, match="ews_url_address_refused"):
        refuse_special_address(normal, [])
    everything = [IPv4Network("0.0.0.0/0"), IPv6Network("::/0")]
    refuse_special_address(normal, everything)


def test_other_hosts_pass() -> None:
    for host in ("10.0.0.1", "[2001:db8::1]:444", "[fd00::1]", "mail.example.com", "exchange01"):
        refuse_special_address(normal_host(host), [])
