"""Headers that were not meant to be kept."""

from __future__ import annotations

import pytest

from sos.model.foreign_headers import is_foreign


@pytest.mark.parametrize(
    "names",
    [
        # Of the issue.
        "X-XSRF-TOKEN X-CSRFToken X-Original-Forwarded-For X-Amzn-Oidc-Accesstoken X-Varnish "
        "X-LiteSpeed-Location",
        # By their words.
        "X-Auth X-Auth-Token X-Authorization X-Apikey X-API-KEY X-Access-Token X-Access_Token "
        "X-Refreshtoken X-Gitlab-Token X-Csrf X-Shop-Secret X-Db-Passwd X-New-Password X-Phpsessid "
        "X-Session-Id X-Set-Cookie X-Aws-Credentials X-Saml-Assertion X-Webauth-User X-Userinfo "
        "X-Otp X-Private-Key X-Ssl-Client-S-Dn X-Client-Cert X-Clientcert",
        "X-Forwarded-For X-Forwarded X-ProxyUser-Ip X-Real-IP X-Real_IP X-RealIp X-Client-Ip "
        "X-Cluster-Client-Ip X-True-Client-Ip X-Clientip X-Remote-Addr X-Remote-User X-Ip "
        "X-Originating-Ip",
        "X-Request-Id X-Requestid X-Github-Request-Id X-Correlation-Id X-Trace-Id "
        "X-Cloud-Trace-Context X-Http-Method-Override X-Sendfile X-Sendfile-Type",
        # By whose they are.
        "X-Accel-Redirect X-Original-Url X-Unique-Id X-Haproxy-Server-State X-Served-By X-Cache "
        "X-Cache-Hits X-Timer X-Envoy-Attempt-Count X-B3-Sampled X-Ot-Span-Context X-Replaced-Path "
        "X-Lighttpd-Send-File X-Reproxy-Url X-Rewrite-Url X-Cf-Applicationid X-Amz-Cf-Id "
        "X-Amzn-Mtls-Clientcert-Leaf X-Goog-Authenticated-User-Email X-Appengine-Country "
        "X-Ms-Client-Principal X-Azure-Fdid X-Fd-Healthprobe X-Arr-Log-Id X-Akamai-Staging "
        "X-Check-Cacheable X-Litespeed-Purge X-Powered-By X-Aspnet-Version X-Request-Start",
        "X-Runtime X-Cascade X-Accel-Mapping X-Socket-Id X-Ratelimit-Limit X-Application-Context "
        "X-Requested-With X-Host X-Frame-Options X-Content-Type-Options X-Xss-Protection "
        "X-Permitted-Cross-Domain-Policies",
        "X-Sos-Metadata X-Sos_Set_At x-sos-manifest x-SOS-nonce",
    ],
)
def test_what_others_add_or_obey_is_foreign(names):
    """However it is spelled: HTTP/2 has no capitals, and CGI no hyphens."""
    for name in names.split():
        for spelled in (
            name,
            name.lower(),
            name.upper(),
            name.replace("-", "_").replace("_", "-", 1),
        ):
            assert is_foreign(spelled), spelled


@pytest.mark.parametrize(
    "names",
    [
        "X-Orig-Filename X-Orig-Filename* X-Mime-Type X-Mime-Encoding X-Original-Filename",
        "X-Author X-Authors X-Authorship X-Authority X-Keyboard-Layout X-Keywords X-Monkey "
        "X-Secretary X-Tokenizer X-Obsession X-Recipe X-Ship X-Zip X-Chip X-Authentic X-Passport "
        "X-Remotely X-Cached",
        "X-Name X-A X-1 X-Title X-Description X-Sha256 X-Project-Id X-Message-Id X-Signature X-Url "
        "X-Format X-Generator X-User X-Camera-Model X-Robots-Tag",
        "X-Meta-Token X-Meta-Session X-Object-Meta-Key X-Amz-Meta-Secret X-Goog-Meta-Auth",
    ],
)
def test_what_describes_an_object_is_not(names):
    """A word is a whole one; and what stores call their users' metadata is never anybody else's."""
    assert [name for name in names.split() if is_foreign(name)] == []
