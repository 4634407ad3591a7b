"""The URL of a store in a bucket."""

import pytest

from sos.stores.engines.s3.address import S3Address, s3_address


@pytest.mark.parametrize(
    ("url", "address", "base"),
    [
        ("s3://photos", S3Address("photos", ""), "https://photos.s3.eu-west-1.amazonaws.com"),
        (
            "s3://photos/a//b/?region=cn-north-1",
            S3Address("photos", "a/b/", None, "cn-north-1"),
            "https://photos.s3.eu-west-1.amazonaws.com",
        ),
        (
            "s3://my.photos",
            S3Address("my.photos", ""),
            "https://s3.eu-west-1.amazonaws.com/my.photos",
        ),
        (
            "s3://photos/sos?endpoint=http://Swift:8080/&region=RegionOne",
            S3Address("photos", "sos/", "http://swift:8080", "RegionOne"),
            "http://swift:8080/photos",
        ),
        (
            "s3://photos?endpoint=https%3A%2F%2Fminio.example.com:443",
            S3Address("photos", "", "https://minio.example.com"),
            "https://minio.example.com/photos",
        ),
    ],
)
def test_a_url_names_bucket_prefix_endpoint_and_region(url, address, base):
    """With an endpoint the bucket is in the path, without in Amazon's host where that works."""
    assert s3_address(url) == address
    assert address.base("eu-west-1") == base
    assert s3_address(str(address)) == address


def test_amazon_in_china_has_a_domain_of_its_own():
    """As have its certificates."""
    assert S3Address("photos", "").base("cn-north-1") == (
        "https://photos.s3.cn-north-1.amazonaws.com.cn"
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3:photos", "not a bucket URL"),
        ("s3:///photos", "not a bucket URL"),
        ("s3://Photos", "not a bucket URL"),
        ("s3://p", "not a bucket URL"),
        ("s3://photos#x", "not a bucket URL"),
        ("s3://photos?endpoint", "not a bucket URL"),
        ("s3://key:hidden@photos", "into the environment"),
        ("s3://photos/a b", "prefix"),
        ("s3://photos/../x", "prefix"),
        ("s3://photos/%41", "prefix"),
        ("s3://photos/" + "x" * 600, "prefix"),
        ("s3://photos?color=red", "'color' is not an option"),
        ("s3://photos?region=a&region=b", "region is given twice"),
        ("s3://photos?region=a/b", "a region is"),
        ("s3://photos?region=", "a region is"),
        ("s3://photos?endpoint=", "an endpoint must be"),
        ("s3://photos?endpoint=swift:8080", "an endpoint must be"),
        ("s3://photos?endpoint=ftp://swift", "an endpoint must be"),
        ("s3://photos?endpoint=http://swift:0", "an endpoint must be"),
        ("s3://photos?endpoint=http://swift:x", "an endpoint must be"),
        ("s3://photos?endpoint=http://swift/path", "an endpoint must be"),
        ("s3://photos?endpoint=http://key:hidden@swift", "an endpoint must be"),
    ],
)
def test_what_is_no_such_url_is_refused(url, message):
    """In words that say what is wrong, and nothing of a secret."""
    with pytest.raises(ValueError, match=message) as refused:
        s3_address(url)
    assert "hidden" not in str(refused.value)
