"""X-* headers that are not metadata: proxies add or obey them, or they carry credentials.

SOS keeps a client's X-* headers with its upload, and serves them to everybody, unchanged, for
years.  So it must not keep headers that were not meant for that.  It recognizes them by the
words in a name, and by the names that other programs use.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import pairwise

from sos.model import metadata

#: Names for users' own metadata in object stores, and the names that SOS itself interprets:
#: these are never foreign, whatever words are in them.
_OWN = re.compile(
    r"x-(?:(?:meta|object-meta|amz-meta|goog-meta|ms-meta)-.+|orig-filename|mime-type|mime-encoding)"
)

# Whole words, so that X-Author, X-Keyboard-Layout, X-Secretary and X-Tokenizer stay.
_WORD = re.compile(
    "|".join(
        (
            # Credentials and identities.
            r"auth(?:n|z|ori[sz]ation|enticat\w*|ed|key|user|id|info|code|data)?",
            r"\w*oauth\d?\w*|\w*webauth\w*|\w*[cx]srf\w*|\w*jwt\w*|saml\w*|sso|bearer|login|principal",
            r"\w*tokens?|\w*secrets?|\w*cookies?|\w*credentials?|creds?|assertions?",
            r"\w*(?:password|passwd|passphrase|passcode|pwd)s?|[ht]?otp|[m2]fa",
            r"(?:api|access|secret|private|auth|license|client|app|user|account|shared|master|"
            r"session|encryption|signing)?keys?",
            r"(?:php|j|asp|web|user|auth|login)?sess(?:ion)?(?:s|ids?|keys?|data)?|sid",
            r"userinfo|\w*clientcert\w*|m?tls|ssl",
            # The client and its route.
            r"\w*forwarded\w*|proxy\w*|proxied|via",
            r"ips?|ipv[46]|ipaddr(?:ess)?",
            r"\w*(?:client|real|remote|source|peer|user|origin|originating)ip",
            r"remote(?:addr(?:ess)?|user|host|port)?",
            # Ids of requests.
            r"(?:request|correlation|trace|span)id|trace(?:parent|state)",
            # Commands to proxies and frameworks.
            r"override|\w*sendfile\w*",
        )
    )
)
# Pairs of consecutive words.
_PAIRS = frozenset(
    (
        ("request", "id"),
        ("correlation", "id"),
        ("trace", "id"),
        ("trace", "context"),
        ("span", "id"),
        ("client", "cert"),
        ("client", "certificate"),
        ("client", "verify"),
        ("client", "dn"),
        ("client", "port"),
        ("user", "info"),
    )
)

# By owner, without the "x-", names that the words do not match; a name, or a prefix*.
_OWNERS: dict[str, str] = {
    # nginx.org: ngx_http_proxy_module, proxy_ignore_headers; its wiki's "X-Accel"; ingress-nginx:
    # the template nginx.tmpl and "External Authentication".
    "nginx": "accel-* real-port real-scheme original-url original-uri original-method "
    "original-host sent-from scheme ingress-*",
    # HAProxy's Configuration Manual: option originalto, unique-id-header, http-check send-state.
    "HAProxy": "haproxy-* original-to unique-id",
    # Varnish's Users Guide and builtin.vcl; ban-friendly headers; vmod_xkey.
    "Varnish": "varnish varnish-* xkey cacheable ban-* purge purge-*",
    # "HTTP header manipulation", "Router" and "Tracing" of Envoy's documentation.
    "Envoy": "envoy-* client-trace-id ot-span-context b3-* datadog-* ratelimit-* rate-limit-*",
    # Middlewares ReplacePath and StripPrefix, EntryPoints' forwarded headers.
    "Traefik": "traefik-* replaced-path",
    # Directives reverse_proxy (defaults, and intercepting X-Accel-Redirect) and php_fastcgi.
    "Caddy": "caddy-*",
    # mod_proxy_http, mod_rewrite's users, mod_xsendfile, mod_pagespeed.
    "Apache": "rewrite-* mod-pagespeed page-speed forward-for forward-host forward-proto",
    # mod_proxy of lighttpd; Perlbal's "reproxying".
    "lighttpd and Perlbal": "lighttpd-* reproxy-*",
    # "Cloudflare HTTP headers"; Gorouter of Cloud Foundry has the same prefix.
    "Cloudflare and Cloud Foundry": "cf-* cloudflare-* vcap-*",
    # ELB: request tracing, "Authenticate users", mutual TLS; CloudFront; API Gateway; S3.
    "AWS": "amz-* amzn-* amazon-* aws-* cloudfront-*",
    # IAP's "Getting the user's identity", Cloud Load Balancing, App Engine's request headers.
    "Google": "goog-* google-* gfe-* appengine-* cloudtasks-* cloudscheduler* guploader-* "
    "client-data",
    # Front Door's header protocol, App Service's authentication, Application Gateway.
    "Azure": "azure-* ms-* fd-* msedge-* arr-* appgw-* appservice-* waws-* site-deployment-id",
    # Fastly's "Header reference".
    "Fastly": "fastly-* served-by cache cache-* timer compress-hint sigsci-*",
    # "Pragma headers" of Akamai's Edge Diagnostics.
    "Akamai": "akamai-* edgeconnect-* check-cacheable true-cache-*",
    # "Internal Redirect" and LSCache's developer guide.
    "LiteSpeed": "litespeed-* lscache lscache-* lsadc-*",
    # ARR and URL Rewrite; ASP.NET and ASP.NET Core.
    "IIS": "aspnet-* aspnetmvc-* aspnetcore-* iis-* sourcefiles powered-by powered-by-*",
    # Other edges: Squid, Heroku, Imperva, Sucuri, F5, Citrix, Vercel, Netlify, Kong, Pomerium,
    # authentik, Istio, and monitoring agents behind them.
    "others": "squid-* heroku-* request-start queue-start iinfo cdn sucuri-* f5-* citrix-* "
    "vercel-* matched-path nf-* kong-* consumer-* anonymous-consumer pomerium-* authentik-* "
    "istio-* kubernetes-* k8s-* newrelic-* instana-* dynatrace dynatrace-* sentry-* backend "
    "backend-* upstream upstream-* bluecoat-*",
    # Rack, Rails and its Sendfile; Rack::MethodOverride.
    "Rails": "runtime rack-* cascade miniprofiler-* accel-mapping",
    # Laravel, its Echo and Livewire; Symfony.
    "PHP": "socket-id livewire livewire-* inertia inertia-* symfony-* drupal-* php-* pingback "
    "redirect-by",
    # Spring Boot; Jersey's CsrfProtectionFilter.
    "Java": "application-context requested-by",
    # Express, Helmet, response-time; jQuery and axios.
    "JavaScript": "response-time requested-with http-method",
    # Headers that browsers obey (MDN: "HTTP headers").
    "browsers": "content-type-options frame-options xss-protection dns-prefetch-control "
    "download-options permitted-cross-domain-policies ua-compatible content-security-policy "
    "content-security-policy-* webkit-csp webkit-csp-* sourcemap firefox-spdy moz purpose",
    # Original addresses of requests, for frameworks (Werkzeug's ProxyFix, Symfony, Zend).
    "frameworks": "host http-host script-name url-scheme",
    # Headers between the servers of SOS.
    "SOS": "sos-*",
}
_PATTERNS = " ".join(_OWNERS.values()).split()
_NAMES = frozenset(f"x-{each}" for each in _PATTERNS if not each.endswith("*"))
_PREFIXES = tuple(f"x-{each[:-1]}" for each in _PATTERNS if each.endswith("*"))

_SEPARATORS = re.compile("[^a-z0-9]+")


@lru_cache(maxsize=512)  # a server sees the same few names in all requests
def is_foreign(name: str) -> bool:
    """Return whether the X-* header *name*, in any case, was not meant to be kept.

    The characters between the words make no difference, because some programs treat an
    underscore, or anything else, as a hyphen.
    """
    if metadata.is_withheld(metadata.canonical_name(name)):
        return True
    words = _SEPARATORS.split(name.lower().rstrip("*"))
    plain = "-".join(words)
    if _OWN.fullmatch(plain):
        return False
    return (
        plain in _NAMES
        or plain.startswith(_PREFIXES)
        or any(map(_WORD.fullmatch, words))
        or not _PAIRS.isdisjoint(pairwise(words))
    )
