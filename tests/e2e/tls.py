"""A server over TLS without a proxy, and proxies in front of it, as strangers see them.

Starts `countersign dev --tls` and speaks to it with grpcurl, curl and openssl alone; and through nginx, HAProxy and
Envoy, where they are installed, which end TLS and speak TLS to the server, or pass it through. What must be refused is
refused: TLS 1.1 and older, ciphers without authentication of what they encrypt, plaintext, and a bound JWT without its
certificate. Prints a line for each step; fails at the first error.

    python3 tests/e2e/tls.py

Needs grpcurl, curl with HTTP/2, openssl, and in the environment what `countersign dev --tls` writes into dev.env.
"""

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 120  # seconds, for what needs a moment on a busy machine
EXCHANGE, CALLER = "countersign.v1.TokenService/ExchangeToken", "countersign.v1.AccountService/GetCaller"

NGINX = """
pid {work}/nginx.pid;
daemon off;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {work}/a; proxy_temp_path {work}/b; fastcgi_temp_path {work}/c;
    uwsgi_temp_path {work}/d; scgi_temp_path {work}/e;
    server {{
        listen 127.0.0.1:{ended} ssl http2;
        ssl_certificate {work}/proxy.crt;
        ssl_certificate_key {work}/proxy.key;
        location / {{
            grpc_pass grpcs://{server};
            grpc_ssl_verify on;
            grpc_ssl_name localhost;
            grpc_ssl_trusted_certificate {authority};
        }}
    }}
}}
"""
# A module that a distribution may leave out.
NGINX_STREAM = """
load_module {module};
stream {{
    server {{ listen 127.0.0.1:{through}; proxy_pass {server}; }}
}}
"""
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
HAPROXY = """
global
    log stdout format raw local0
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend through
    mode tcp
    bind 127.0.0.1:{through}
    default_backend servers_through
backend servers_through
    mode tcp
    server one {server}
frontend ended
    mode http
    bind 127.0.0.1:{ended} ssl crt {work}/proxy.pem alpn h2,http/1.1
    default_backend servers_ended
backend servers_ended
    mode http
    server one {server} ssl verify required ca-file {authority} verifyhost localhost alpn h2
"""
ENVOY = """
static_resources:
  listeners:
    - name: through
      address: {{socket_address: {{address: 127.0.0.1, port_value: {through}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.tcp_proxy
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
                stat_prefix: through
                cluster: through
    - name: ended
      address: {{socket_address: {{address: 127.0.0.1, port_value: {ended}}}}}
      filter_chains:
        - transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_certificates:
                  - certificate_chain: {{filename: {work}/proxy.crt}}
                    private_key: {{filename: {work}/proxy.key}}
          filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: ended
                codec_type: AUTO
                route_config:
                  virtual_hosts:
                    - {{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: ended}}}}]}}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: through
      type: STATIC
      load_assignment: &servers
        cluster_name: servers
        endpoints:
          - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]
    - name: ended
      type: STATIC
      load_assignment: *servers
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{http2_protocol_options: {{}}}}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2]
            validation_context: {{trusted_ca: {{filename: {authority}}}}}
"""
PROXIES = {
    "nginx": (NGINX, ["nginx", "-p", "{work}", "-c", "{file}"]),
    "haproxy": (HAPROXY, ["haproxy", "-f", "{file}"]),
    "envoy": (ENVOY, ["envoy", "-c", "{file}", "--base-id", "{pid}", "-l", "warning"]),
}


def main():
    server, authority = setting("COUNTERSIGN_ENDPOINT").removeprefix("https://"), setting("COUNTERSIGN_CA_FILE")
    token = setting("COUNTERSIGN_SERVICE_TOKEN")
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        work.chmod(0o755)
        client = certificate(work, "client")
        certificate(work, "proxy", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        (work / "proxy.pem").write_text((work / "proxy.crt").read_text() + (work / "proxy.key").read_text())

        jwt = exchange(server, authority, token)
        grpcurl(server, authority, jwt, CALLER)
        done("grpcurl exchanges a token over TLS, and calls with the JWT")
        curl(server, authority)
        done("curl reads the key set over TLS, by HTTP/2 and HTTP/1.1")
        refusals(server, authority)
        bound(server, authority, token, client)
        for name in PROXIES:
            if shutil.which(name):
                behind(name, work, server, authority, token, client)
            else:
                not_run(f"TLS through {name}", "it is not installed")
    print("all good")


def refusals(server, authority):
    for arguments, why in {
        ("-tls1",): "TLS 1.0",
        ("-tls1_1",): "TLS 1.1",
        ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"): "a cipher without authentication",
        ("-tls1_2", "-cipher", "AES128-GCM-SHA256"): "a key exchange without forward secrecy",
        ("-tls1_3", "-alpn", "spdy/3"): "a protocol that is not spoken",
    }.items():
        shaken = s_client(server, authority, "-cipher", "DEFAULT:@SECLEVEL=0", *arguments)
        equal(shaken.returncode != 0, True, f"whether {why} is refused")
    for arguments in ("-tls1_2",), ("-tls1_3",), ("-tls1_3", "-alpn", "h2"):
        equal(s_client(server, authority, *arguments).returncode, 0, f"openssl s_client {' '.join(arguments)}")
    plain = subprocess.run(
        ["curl", "--silent", "--max-time", str(PATIENCE), f"http://{server}/healthz"], capture_output=True
    )
    equal((plain.returncode != 0, plain.stdout), (True, b""), "whether plaintext is refused")
    done("openssl shakes hands by TLS 1.3 and 1.2, and what is older, weaker or plaintext is refused")


def s_client(server, authority, *arguments):
    command = ["openssl", "s_client", "-connect", server, "-CAfile", authority, "-verify_return_error", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)


def bound(server, authority, token, client):
    jwt = exchange(server, authority, token, client, {"certificate_bound": True})
    claims = json.loads(base64.urlsafe_b64decode(jwt.split(".")[1] + "=="))
    der = subprocess.run(
        ["openssl", "x509", "-in", f"{client}.crt", "-outform", "DER"], check=True, capture_output=True
    ).stdout
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()
    equal(claims["cnf"], {"x5t#S256": thumbprint}, "the claim cnf")
    grpcurl(server, authority, jwt, CALLER, client)
    refused = grpcurl(server, authority, jwt, CALLER, fails=True)
    equal("CLIENT_CERTIFICATE_NOT_ALLOWED" in refused, True, "whether the JWT alone is refused")
    done("a JWT that is bound to openssl's certificate works with that alone")


def behind(name, work, server, authority, token, client):
    ports = {"through": free_port(), "ended": free_port()}
    source, command = PROXIES[name]
    passes = name != "nginx" or NGINX_MODULE.exists()
    if name == "nginx" and passes:
        source = NGINX_STREAM.replace("{module}", str(NGINX_MODULE)) + source
    if not passes:
        not_run("TLS passed through nginx", "it has no module stream")
        del ports["through"]
    port = server.rpartition(":")[2]
    file = work / ("envoy.yaml" if name == "envoy" else f"{name}.conf")
    file.write_text(source.format(work=work, server=server, port=port, authority=authority, **ports))
    arguments = [part.format(work=work, file=file, pid=os.getpid() % 32_768) for part in command]
    with running(arguments, work / f"{name}.log", ports.values()):
        if passes:
            through = f"127.0.0.1:{ports['through']}"
            jwt = exchange(through, authority, token, client, {"certificate_bound": True})
            grpcurl(through, authority, jwt, CALLER, client)
            curl(through, authority)
        ended = f"127.0.0.1:{ports['ended']}"
        # The proxy has a certificate of its own, and the client's goes no further.
        jwt = exchange(ended, work / "proxy.crt", token)
        grpcurl(ended, work / "proxy.crt", jwt, CALLER)
        request = json.dumps({"certificate_bound": True})
        refused = grpcurl(ended, work / "proxy.crt", token, EXCHANGE, client, request, fails=True)
        equal("certificate_bound" in refused, True, "whether a binding is refused where TLS has ended")
    ways = "passed through with the client's certificate, and ended" if passes else "ended"
    done(f"{name}: TLS {ways} with TLS to the server")


def exchange(server, authority, token, client=None, request=None):
    answer = grpcurl(server, authority, token, EXCHANGE, client, json.dumps(request or {}))
    return json.loads(answer)["accessToken"]


def grpcurl(server, authority, token, method, client=None, request="{}", fails=False):
    command = ["grpcurl", "-cacert", authority, "-max-time", str(PATIENCE)]
    command += ["-cert", f"{client}.crt", "-key", f"{client}.key"] if client else []
    command += ["-H", f"authorization: Bearer {token}", "-d", request, server, method]
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if (ran.returncode != 0) != fails:
        wrong(f"grpcurl {method}: {ran.stdout}{ran.stderr}")
    return ran.stdout + ran.stderr


def curl(server, authority):
    for version in "--http2", "--http1.1":
        command = ["curl", "--silent", "--show-error", "--fail", "--cacert", authority, version]
        command += ["--max-time", str(PATIENCE), f"https://{server}/.well-known/jwks.json"]
        keys = subprocess.run(command, check=True, capture_output=True).stdout
        equal(bool(json.loads(keys)["keys"]), True, "whether the key set has keys")


def certificate(work, name, *arguments):
    """A self-signed certificate; gives the path without its ending."""
    path = work / name
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", f"{path}.key", "-out", f"{path}.crt", *arguments]
    subprocess.run(command, check=True, capture_output=True)
    return path


@contextmanager
def running(command, log, ports):
    """Runs a proxy until the block ends; waits until it listens."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        for port in ports:
            while not listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    wrong(f"{command[0]} does not listen")
                time.sleep(0.05)
        yield
    except BaseException:
        print(f"-- what {command[0]} printed", log.read_text(), sep="\n", flush=True)
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def setting(name):
    return os.environ.get(name) or wrong(f"{name} is not set: source the dev.env of `countersign dev --tls`")


def equal(actual, expected, what):
    if actual != expected:
        wrong(f"{what}: {actual!r} instead of {expected!r}")


def not_run(what, reason):
    print(f"not run: {what}: {reason}", flush=True)
    if listed := os.environ.get("CI_NOT_RUN"):
        with open(listed, "a") as file:
            print(f"{what}: {reason}", file=file)


def done(what):
    print("ok ", what, flush=True)


def wrong(what):
    sys.exit(f"tls.py: {what}")


if __name__ == "__main__":
    main()
