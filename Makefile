# The doors of the project. Each installs what it needs, builds what changed, and can be repeated.
.PHONY: help build demo test test-slow bench install clean

help:
	@echo 'make build       the program, build/release/akin, and the library'
	@echo 'make demo        fetch a model and a data set, embed, search, recommend'
	@echo 'make test        every test, then every test under ASan and UBSan'
	@echo 'make test-slow   100,000 strings against the reference tokenizer, TSan, libFuzzer'
	@echo 'make bench       the reports under results/'
	@echo 'make install     to PREFIX (/usr/local); honours DESTDIR'
	@echo 'make clean       remove build/; models and data stay in AKIN_HOME (~/.cache/akin)'

build:
	@scripts/setup
	@scripts/build release

demo:
	@scripts/demo

test:
	@scripts/test

test-slow:
	@scripts/test-slow

bench:
	@scripts/bench

PREFIX ?= /usr/local
install: build
	@cmake --install build/release --prefix "$(PREFIX)"

clean:
	@rm -rf build
