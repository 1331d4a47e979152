# The host's image: the program, the libraries it needs and nothing else. `cargo xtask image rootfs` makes the
# same root folder for the cluster of demo and tests.
FROM rust:1.95-bookworm AS build
# The compiler that the image has; without it, rustup would fetch what rust-toolchain.toml adds for developers.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY . .
RUN cargo xtask image rootfs /rootfs

FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/operon"]
CMD ["run"]
