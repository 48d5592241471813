"""Asks a public service which packages in the lock have known vulnerabilities: `make audit`.

It needs the network. What the service does not answer is said: then nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
UNKNOWN = 3
"""The exit code if the service has not answered. 1: there are vulnerabilities."""


def audit(lock: Path = LOCK) -> int:
    """Print the vulnerabilities. Returns 0 if there are none, and the service has answered."""
    # The lock has everything with its hash, so nothing has to be resolved or downloaded.
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes"]
    done = subprocess.run(
        [*command, "--progress-spinner", "off", "--format", "json", "--requirement", str(lock)],
        text=True,
        capture_output=True,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"The service cannot be reached, so nothing is known: {reason}", file=sys.stderr)
        return UNKNOWN
    found = [(package, each) for package in packages for each in package.get("vulns", ())]
    for package, each in found:
        mended = ", ".join(each["fix_versions"]) or "no version yet"
        print(f"{package['name']} {package['version']}: {each['id']}, mended in {mended}")
    # With an index that is not the public one, the service may know no package at all.
    if skipped := [package["name"] for package in packages if "skip_reason" in package]:
        print(
            f"Nothing is known of {len(skipped)} of {len(packages)} packages, because the service "
            f"does not know them or cannot be reached: {', '.join(skipped[:5])} …",
            file=sys.stderr,
        )
        return 1 if found else UNKNOWN
    print(f"{len(packages)} packages have {len(found) or 'no'} known vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(audit())
