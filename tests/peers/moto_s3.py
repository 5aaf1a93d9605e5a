"""moto's S3 on loopback, on a port that the kernel gives, with signatures checked.

    moto_s3.py [PORT]

With a port it is there instead, and anybody may do everything: for who was told of it before it was there. Says "ready URL KEY SECRET" on standard output, and ends when its standard input does. Buckets are also found as BUCKET.s3.test.
STS is there too: whoever brings a web identity token becomes the role arn:aws:iam::123456789012:role/r, which may do everything.
"""

import json
import logging
import os
import sys
import threading

port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
# The first three actions, which make a user, need no credentials. moto reads this when it is imported.
if not port:
    os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"

import boto3  # noqa: E402
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app  # noqa: E402
from moto.sts.responses import TokenResponse  # noqa: E402
from werkzeug.serving import make_server  # noqa: E402

authenticate = TokenResponse._authenticate_and_authorize_normal_action


def but_not_who_brings_a_token(self, resource="*"):
    """As AWS: this request is not signed, since its token is what the caller has instead of a key."""
    if self._get_action() != "AssumeRoleWithWebIdentity":
        authenticate(self, resource)


TokenResponse._authenticate_and_authorize_normal_action = but_not_who_brings_a_token

logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", port, app, threaded=True, request_handler=MotoRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()

url = f"http://127.0.0.1:{server.server_port}"
everything = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})


def iam_as(key, secret):
    credentials = {"aws_access_key_id": key, "aws_secret_access_key": secret, "region_name": "us-east-1"}
    return boto3.client("iam", endpoint_url=url, **credentials)


nobody = iam_as("x", "x")
nobody.create_user(UserName="u")
nobody.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=everything)
key = nobody.create_access_key(UserName="u")["AccessKey"]
somebody = iam_as(key["AccessKeyId"], key["SecretAccessKey"])
somebody.create_role(RoleName="r", AssumeRolePolicyDocument=everything)
somebody.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=everything)
print("ready", url, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
sys.stdin.read()
os._exit(0)
