# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
# The C compiler and make are for SQLite, zstd and the TLS library, which are built from their sources. Debian's packages
# get no versions here: a stable release keeps only the latest of each.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock openapi.yaml ./
COPY benches ./benches
COPY docs ./docs
COPY migrations ./migrations
COPY src ./src
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked --bin sluicegate && cp target/release/sluicegate /sluicegate

FROM debian:bookworm-slim
# Certificates for the providers' TLS, wget for the health check.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 sluicegate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/sluicegate --shell /usr/sbin/nologin sluicegate \
    && install --directory --owner=sluicegate --group=sluicegate --mode=0700 /var/lib/sluicegate
COPY --from=build /sluicegate /usr/local/bin/sluicegate
USER 10001:10001
# The store is here, in the folder sluicegate-data, unless store.url or store.url_file says otherwise.
WORKDIR /var/lib/sluicegate
VOLUME /var/lib/sluicegate
# Nothing outside of the volume is written, so the root may be read-only. Beyond loopback the service asks for keys, and
# starts only if it has one: give it SLUICEGATE_ADMIN_KEY.
ENV SLUICEGATE__SERVER__LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
# Liveness, not readiness: a full disk or a drain is no reason to be killed.
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s --retries=3 \
    CMD ["wget", "--quiet", "--output-document=/dev/null", "http://127.0.0.1:8080/livez"]
ENTRYPOINT ["sluicegate"]
CMD ["serve"]
