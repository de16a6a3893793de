"""Secrets stay secret (S3)."""

import base64
import itertools
import urllib.parse

import pytest
from faulty_proxy import HEALTHY, REFUSED

CANARY = "c4n4ry/pa55 w0rd"
QUOTED = urllib.parse.quote(CANARY, safe="")
PLACES = {
    "user": (f"http://me:{QUOTED}@127.0.0.1:{{port}}", {}),
    "token as user": (f"http://{QUOTED}@127.0.0.1:{{port}}", {}),
    "query": (f"http://127.0.0.1:{{port}}?api_key={QUOTED}", {}),
    "token": ("http://127.0.0.1:{port}", {"MLFLOW_TRACKING_TOKEN": CANARY}),
    "password": (
        "http://127.0.0.1:{port}",
        {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": CANARY},
    ),
    "variable": (None, {"MLFLOW_TRACKING_URI": f"http://me:{QUOTED}@127.0.0.1:{{port}}"}),
    "database": (f"postgresql://me:{QUOTED}@127.0.0.1:{{port}}/runs", {}),
}
FAULTS = [HEALTHY, REFUSED, 401, 500]
ALL = list(itertools.product(PLACES, FAULTS, ["warn", "raise"]))
FORMS = [
    CANARY.encode(),
    QUOTED.encode(),
    urllib.parse.quote_plus(CANARY).encode(),
    # The middle of the encoded text does not depend on what precedes it.
    *(base64.b64encode((b"x" * shift) + CANARY.encode())[4:-4] for shift in range(3)),
]


@pytest.mark.timeout(1800)
def test_canary(jobs, tmp_path, backends, count, moments, report):
    """A canary occurs in no log, exception, repr, report of the doctor, spool, pickle or checkpoint (S3).

    The log has all messages of all libraries. The failing servers repeat the request with its headers.
    """
    make_backend = backends("mlflow-server")
    chosen = moments("cases").sample(ALL, count(6, len(ALL)))
    found, size = [], 0

    def examine(case):
        place, fault, on_error = case
        folder = tmp_path / f"{ALL.index(case)}"
        backend = make_backend(folder)
        backend.proxy.fault = fault
        uri, variables = PLACES[place]
        environment = {
            name: value.replace("{port}", str(backend.proxy.port)) for name, value in variables.items()
        }
        common = {"environment": environment, "is_verbose": True}
        options = {"experiment_name": folder.name, "timeout": 2.0, "on_error": on_error}
        target = uri and uri.format(port=backend.proxy.port)
        job = jobs.run(folder, "show_all", target=target, options=options, **common)
        assert job.code == 0, job.output
        assert "MLflowLogger" in job.output
        if isinstance(fault, int) and place in ("user", "token", "password", "variable"):
            # The fault has repeated the secret.
            assert any(form in b"".join(backend.proxy.requests) for form in FORMS)
        jobs.run(folder, "replay", **common)
        jobs.run(folder, "command", arguments=["doctor"], **common)
        jobs.run(folder, "command", arguments=["spool", "list", "--all"], **common)
        backend.close()
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {"output", "checkpoint", "pickle"} <= {path.name for path in files}, job.output
        contents = {path: path.read_bytes() for path in files}
        leaks = [
            f"{place}, {fault}, {on_error}: {path} …{content[max(0, content.index(form) - 200) :][:300]!r}"
            for path, content in contents.items()
            for form in FORMS
            if form in content
        ]
        return leaks, sum(map(len, contents.values()))

    for leaks, examined in jobs.each(examine, chosen):
        found += leaks
        size += examined
    report(cases=len(chosen), bytes=size, occurrences=len(found))
    assert not found, "\n".join(found)
