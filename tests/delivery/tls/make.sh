#!/bin/sh
# Makes these certificates anew; needs openssl. Their keys protect nothing.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat > "$work/openssl.cnf" <<END
[ca]
default_ca = tests
[tests]
database = $work/index
new_certs_dir = $work
private_key = $work/ca.key
certificate = ca.pem
default_md = sha256
policy = any
copy_extensions = copy
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
END
: > "$work/index"

make_key() { openssl ecparam -name prime256v1 -genkey -noout; }

issue() { # file, host name, last day as YYYYMMDD
    make_key > "$work/key"
    openssl req -new -key "$work/key" -subj "/CN=$2" -addext "subjectAltName=DNS:$2" > "$work/csr"
    openssl ca -config "$work/openssl.cnf" -batch -notext -in "$work/csr" \
        -startdate 20200101000000Z -enddate "${3}000000Z" > "$work/certificate" 2> "$work/errors"
    cat "$work/key" "$work/certificate" > "$1"
}

make_key > "$work/ca.key"
openssl req -new -key "$work/ca.key" -subj "/CN=Hooktape tests" > "$work/csr"
printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n' > "$work/extensions"
openssl ca -config "$work/openssl.cnf" -batch -notext -selfsign -keyfile "$work/ca.key" \
    -in "$work/csr" -extfile "$work/extensions" -startdate 20200101000000Z \
    -enddate 21200101000000Z > "$work/ca.pem" 2> "$work/errors"
mv "$work/ca.pem" ca.pem
issue receiver.pem receiver.test 21200101
issue expired.pem receiver.test 20200102
