#!/bin/bash
# moto's S3 on loopback, with signatures checked.
#   moto.sh PYTHON PORT
# Says "ready URL KEY SECRET" on standard output, and ends when its standard input does.
# Needs PyPI's moto, flask, flask-cors and boto3 in that Python.
set -euo pipefail
python=$1 port=$2 url=http://127.0.0.1:$2
# The first three actions, which make a user, need no credentials.
INITIAL_NO_AUTH_ACTION_COUNT=3 "$python" -m moto.server -H 127.0.0.1 -p "$port" >/dev/null 2>&1 & moto=$!
trap 'kill -KILL $moto 2>/dev/null || true; wait 2>/dev/null || true' EXIT
trap 'exit 1' TERM INT
for _ in $(seq 300); do bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" 2>/dev/null && break; sleep .1; done
"$python" - "$url" <<'PYTHON'
import json
import sys

import boto3

url = sys.argv[1]
nobody = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}
iam = boto3.client("iam", endpoint_url=url, **nobody)
iam.create_user(UserName="u")
everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="u", PolicyName="p", PolicyDocument=json.dumps(everything))
key = iam.create_access_key(UserName="u")["AccessKey"]
print("ready", url, key["AccessKeyId"], key["SecretAccessKey"], flush=True)
PYTHON
read -r _ || true
