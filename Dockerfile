# One static binary and CA roots: no shell, no C library, no passwd. Runs as any user, on a read-only root.
FROM rust:1.95-slim AS build
WORKDIR /src
COPY . .
RUN scripts/image-root.sh

FROM scratch
COPY --from=build /src/target/image /
# Replaceable by a mount of the same name: a cluster's own roots.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/usr/bin/dray"]
