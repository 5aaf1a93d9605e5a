"""Speaks TLS with both services of a node through OpenSSL: C-ECHO by pynetdicom, and QIDO-RS.

    tls.py DIMSE_PORT AE_TITLE WEB_PORT ROOT CERTIFICATE KEY          files in PEM

Passes (status 0) when both answer in TLS 1.2 and 1.3 to who has the certificate, and to nobody else.
"""

import http.client
import ssl
import sys

from pynetdicom import AE
from pynetdicom.sop_class import Verification

NAME = "localhost"
SPOKEN = [
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (ssl.TLSVersion.TLSv1_3, None),
]


def context(root, own, version, suite):
    """Verifies the server's certificate and its name."""
    made = ssl.create_default_context(cafile=root)
    made.minimum_version = made.maximum_version = version
    if suite:
        made.set_ciphers(suite)
    if own:
        made.load_cert_chain(*own)
    return made


def echo(port, title, tls):
    association = AE("TLS")
    association.add_requested_context(Verification)
    association = association.associate("127.0.0.1", port, ae_title=title, tls_args=(tls, NAME))
    if not association.is_established:
        return False
    status = association.send_c_echo()
    association.release()
    return status.Status == 0


def search(port, tls):
    """Status, version and suite."""
    connection = http.client.HTTPSConnection(NAME, port, context=tls, timeout=30)
    connection.connect()
    agreed = connection.sock.version(), connection.sock.cipher()[0]
    connection.request("GET", "/dicom-web/studies")
    return connection.getresponse().status, *agreed


def main():
    dimse, title, web, root, *own = sys.argv[1:]
    dimse, web = int(dimse), int(web)
    for version, suite in SPOKEN:
        tls = context(root, own, version, suite)
        status, name, chosen = search(web, tls)
        assert status == 204, status
        assert name == version.name.replace("_", ".") and suite in (None, chosen), (name, chosen)
        assert echo(dimse, title, tls), (version, suite)

        nobody = context(root, None, version, suite)
        assert not echo(dimse, title, nobody), (version, suite)
        try:
            answer = search(web, nobody)
        except (ssl.SSLError, ConnectionError):
            continue
        raise AssertionError(f"answered without a certificate: {answer}")
    print("spoken in TLS 1.2 and 1.3")


if __name__ == "__main__":
    main()
