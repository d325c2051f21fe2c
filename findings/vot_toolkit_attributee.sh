#!/usr/bin/env bash
# vot-toolkit 0.9.0 asks for `attributee` without an upper bound and so gets 0.1.10, which cannot be imported on
# Python 3.11 or newer: it applies typing.dataclass_transform (PEP 681, a decorator that is called first) as
# `@dataclass` without a call. Where typing has no such name (Python 3.10) a stand-in of its own works, and so does 0.1.8.
#
# Seen with Python 3.11.7, vot-toolkit 0.9.0:
#   attributee 0.1.10: TypeError: dataclass_transform() takes 0 positional arguments but 1 was given
#   attributee 0.1.8: vot imports
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "needs Python 3.11 or newer"; exit 2; }
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet vot-toolkit==0.9.0 attributee==0.1.10
seen=$("$folder/env/bin/python" -W ignore -c 'import vot' 2>&1 | tail -n 1) || true
echo "attributee 0.1.10: $seen"
[[ $seen == "TypeError: dataclass_transform() takes 0 positional arguments but 1 was given" ]]
"$folder/env/bin/pip" install --quiet attributee==0.1.8
"$folder/env/bin/python" -W ignore -c 'import vot; print("attributee 0.1.8: vot imports")'
