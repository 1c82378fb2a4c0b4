# The image of rollcall. Dependencies are compiled in a layer of their own, which changes only with Cargo.lock.
# Built and run for real by scripts/image-test; "In a container" in the README says how to use it.

FROM docker.io/library/rust:1.95-bookworm AS chef
WORKDIR /build
RUN cargo install cargo-chef --locked --version 0.1.78

FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS builder
COPY --from=planner /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --bin rollcall --recipe-path recipe.json
COPY . .
# The commit that `rollcall --version` tells; the sources come without git's folder.
ARG ROLLCALL_COMMIT=unknown
# Without its symbols the binary is a fifth smaller; a panic still tells its file and line. Only the binary is kept of this
# layer, or each build would leave a gigabyte behind.
RUN ROLLCALL_COMMIT="$ROLLCALL_COMMIT" cargo build --release --locked --bin rollcall \
 && mkdir -p /out/data \
 && strip -o /out/rollcall target/release/rollcall \
 && rm -rf target

FROM gcr.io/distroless/cc-debian12:nonroot
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/rollcall/
# A named or an unnamed volume takes its owner from the folder that it covers.
COPY --from=builder --chown=65532:65532 /out/data /data
COPY --from=builder /out/rollcall /usr/local/bin/rollcall
# The default journal is in the folder it runs in. Neither it nor the address is set as such, so that a platform's own PORT, a
# ROLLCALL_LISTEN or a DATABASE_URL_FILE is all that needs to be given.
WORKDIR /data
ENV PORT=8787
# By number, so that an orchestrator that forbids root can see that it is not root.
USER 65532:65532
VOLUME /data
EXPOSE 8787
# Whether it lives, not whether it is ready: a restart cures only the first.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["/usr/local/bin/rollcall", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/rollcall"]
CMD ["serve"]
ARG ROLLCALL_COMMIT=unknown
LABEL org.opencontainers.image.title="rollcall" \
      org.opencontainers.image.description="Which organizations does a Clerk user belong to: answered from memory, right within a second." \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="$ROLLCALL_COMMIT"
