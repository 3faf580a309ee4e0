# SPDX-License-Identifier: Apache-2.0
# mno: everything is built below $(O). Quiet by default; V=1 shows commands, SANITIZE=1 adds
# ASan+UBSan (into $(O)/san), SANITIZE=thread adds TSan (into $(O)/tsan), FUZZ=1 builds libFuzzer
# targets with clang (into $(O)/fuzz).
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.DEFAULT_GOAL := all

VERSION  := 0.1.0
SANITIZE ?= 0
FUZZ     ?= 0
V        ?= 0
O        ?= build$(if $(filter 1,$(SANITIZE)),/san)$(if $(filter thread,$(SANITIZE)),/tsan)$(if $(filter 1,$(FUZZ)),/fuzz)
PREFIX   ?= /usr/local
DESTDIR  ?=
CC       := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
ifeq ($(FUZZ),1)
CC       := clang
endif
CLANG    ?= clang
BPFTOOL  ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
STRIP    ?= llvm-strip
ARCH     := $(subst x86_64,x86,$(subst aarch64,arm64,$(shell uname -m)))
Q        := $(if $(filter 1,$(V)),,@)
say       = $(if $(filter 1,$(V)),,@printf '  %-8s %s\n' '$(1)' '$(patsubst $(O)/%,%,$(2))';)

WARN     := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
            -Wwrite-strings -Wundef -Wformat=2 -Wno-unused-parameter -Werror
OPT      := -O2 -g -fno-omit-frame-pointer
comma    := ,
ifneq ($(filter 1,$(SANITIZE) $(FUZZ)),)
SANFLAGS := -fsanitize=address$(comma)undefined$(if $(filter 1,$(FUZZ)),$(comma)fuzzer-no-link) -fno-sanitize-recover=all
OPT      := -O1 -g -fno-omit-frame-pointer
else ifeq ($(SANITIZE),thread)
SANFLAGS := -fsanitize=thread -Wno-maybe-uninitialized
OPT      := -O1 -g -fno-omit-frame-pointer
else
HARDEN   := -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
HARDLD   := -pie -Wl,-z,relro,-z,now
endif
# -ffp-contract=off: decimal detection must not depend on fused multiply-add.
CFLAGS   ?=
CPPFLAGS += -D_GNU_SOURCE -DMNO_VERSION='"$(VERSION)"' -Ilibmno/include -Ibpf/include -Ibpf -Iagent \
            -Itools/mnoctl -Itests/support -I$(O)/skel -I$(O)/gen
ALLCFLAGS = -std=gnu11 $(OPT) $(WARN) $(HARDEN) $(SANFLAGS) -ffp-contract=off -fno-strict-aliasing \
            -pthread $(CFLAGS)
LDFLAGS  += $(SANFLAGS) $(HARDLD) -pthread
LIBS_MNO  := -llmdb -lsodium -ljson-c -lzstd -lpcre2-8 -lsnappy -lm
LIBS_BPF  := -lbpf -lelf -lz
LIBS_AGENT:= -lmicrohttpd -lsystemd -lcap
BPFFLAGS := -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) -Wall -Wextra -Werror \
            -Wno-unused-parameter -Wno-missing-declarations -Ibpf/include -Ibpf \
            -I/usr/include/$(shell uname -m)-linux-gnu

# ---- what there is to build (folders are found, never listed) --------------------------------
bpf_src   := $(wildcard bpf/*/*.bpf.c tests/bench/bpf/*.bpf.c)
probes    := $(notdir $(bpf_src:.bpf.c=))
skels     := $(probes:%=$(O)/skel/%.skel.h)
obj        = $(patsubst %.c,$(O)/obj/%.o,$(1))
libmno_src := $(wildcard libmno/src/*/*.c libmno/src/*/*/*.c)
probe_src := $(filter-out %.bpf.c,$(wildcard bpf/*/*.c))
agent_src := $(filter-out agent/main.c,$(wildcard agent/*.c agent/*/*.c))
ctl_src   := $(filter-out tools/mnoctl/main.c,$(wildcard tools/mnoctl/*.c tools/mnoctl/verbs/*.c))
unit_src  := $(wildcard tests/unit/*/test_*.c tests/unit/*/*/test_*.c)
bpft_src  := $(wildcard tests/bpf/test_*.c)
bench_src := $(wildcard tests/bench/*.c)
fuzz_src  := $(wildcard tests/fuzz/*.c)
prog_src  := $(wildcard tests/support/prog/*.c)
support   := $(call obj,$(filter-out tests/support/fuzz_main.c,$(wildcard tests/support/*.c)))
fuzz_main := $(if $(filter 1,$(FUZZ)),,$(call obj,tests/support/fuzz_main.c))
libs      := $(O)/libagent.a $(O)/libprobes.a $(O)/libctl.a $(O)/libmno.a
unit_bin  := $(patsubst tests/%.c,$(O)/tests/%,$(unit_src) $(bpft_src))
bench_bin := $(patsubst tests/bench/%.c,$(O)/bench/%,$(bench_src))
fuzz_bin  := $(patsubst tests/fuzz/%.c,$(O)/tests/fuzz/%,$(fuzz_src))
prog_bin  := $(patsubst tests/support/prog/%.c,$(O)/tests/prog/%,$(prog_src))

.PHONY: all tests clean deps run test check bench vm-test install uninstall deb format help conformance race
all: $(O)/mnod $(O)/mnoctl
tests: all $(unit_bin) $(fuzz_bin) $(prog_bin) $(bench_bin) $(O)/tests/vm/power_load
bench-bins: $(bench_bin) $(prog_bin)

$(O)/mnod: $(call obj,agent/main.c) $(O)/libagent.a $(O)/libprobes.a $(O)/libmno.a
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ -Wl,--start-group $^ -Wl,--end-group $(LIBS_AGENT) $(LIBS_BPF) $(LIBS_MNO)
# The CLI links only the objects of libmno that it names: no LMDB, no BPF.
$(O)/mnoctl: $(call obj,tools/mnoctl/main.c) $(O)/libctl.a $(O)/libmno.a
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^ -ljson-c -lm
$(O)/libmno.a: $(call obj,$(libmno_src))
$(O)/libprobes.a: $(call obj,$(probe_src))
$(O)/libagent.a: $(call obj,$(agent_src))
$(O)/libctl.a: $(call obj,$(ctl_src))
$(O)/%.a:
	@mkdir -p $(@D)
	$(call say,AR,$@)rm -f $@ && ar rcsD $@ $^

$(O)/obj/%.o: %.c Makefile | $(skels)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(CPPFLAGS) $(ALLCFLAGS) -MMD -MP -c -o $@ $<
$(O)/skel/%.bpf.o: Makefile
	@mkdir -p $(@D)
	$(call say,BPF,$@)$(CLANG) $(BPFFLAGS) -MMD -MP -MT $@ -c -o $@ $(filter %/$*.bpf.c,$^) && $(STRIP) -g $@
$(foreach s,$(bpf_src),$(eval $(O)/skel/$(notdir $(s:.c=.o)): $(s)))
$(O)/skel/%.skel.h: $(O)/skel/%.bpf.o
	$(call say,SKEL,$@)$(BPFTOOL) gen skeleton $< name $*_bpf >$@

$(O)/tests/prog/%: $(O)/obj/tests/support/prog/%.o
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ $^
$(O)/bench/%: $(O)/obj/tests/bench/%.o $(support) $(libs)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ -Wl,--start-group $^ -Wl,--end-group $(LIBS_AGENT) $(LIBS_BPF) $(LIBS_MNO)
$(O)/tests/fuzz/%: $(O)/obj/tests/fuzz/%.o $(fuzz_main) $(support) $(libs)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) $(if $(filter 1,$(FUZZ)),-fsanitize=fuzzer) -o $@ -Wl,--start-group $^ -Wl,--end-group $(LIBS_AGENT) $(LIBS_BPF) $(LIBS_MNO)
$(O)/tests/%: $(O)/obj/tests/%.o $(support) $(libs)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(CC) $(LDFLAGS) -o $@ -Wl,--start-group $^ -Wl,--end-group -lcmocka $(LIBS_AGENT) $(LIBS_BPF) $(LIBS_MNO)

# ---- what people type ------------------------------------------------------------------------
deps:
	$(Q)tools/dev/deps.sh build run test
run:
	$(Q)tools/dev/deps.sh build run
	$(Q)$(MAKE) --no-print-directory -j$$(nproc) all
	$(Q)tools/dev/run.sh $(O)
test:
	$(Q)tools/dev/deps.sh build run test
	$(Q)tests/run.sh
check:
	$(Q)tools/dev/check.sh
race:
	$(Q)$(MAKE) --no-print-directory SANITIZE=thread all $(unit_src:tests/%.c=build/tsan/tests/%)
	$(Q)tests/race.sh build/tsan
bench: $(bench_bin) $(prog_bin) all
	$(Q)tests/bench/setup.sh
	$(Q)tests/bench/run.sh $(O) $(BENCH)
vm-test: all $(filter $(O)/tests/bpf/%,$(unit_bin)) $(O)/tests/vm/power_load
	$(Q)tests/vm/run.sh
install: all
	$(Q)tools/dev/install.sh '$(O)' '$(DESTDIR)' '$(PREFIX)'
uninstall:
	$(Q)tools/dev/install.sh --remove '$(O)' '$(DESTDIR)' '$(PREFIX)'
deb: all
	$(Q)tools/packaging/deb.sh '$(O)' '$(VERSION)'
format:
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')
clean:
	$(Q)rm -rf $(O)
help:
	@echo 'make            build everything into $(O)/'
	@echo 'make run        set up this machine, build, start the agent in the foreground'
	@echo 'make test       set up this machine, run every test; last line: N passed, N failed, N skipped'
	@echo 'make check      static checks (includes, formatting, tables, docs)'
	@echo 'make race       threads under ThreadSanitizer: unit tests, and the agent under load'
	@echo 'make bench      figures; BENCH=group for one group, PEERS=0 without rivals'
	@echo '                BENCH=instructions counts them; UPDATE=1 writes their table anew'
	@echo 'make vm-test    the tests that need another kernel, in QEMU'
	@echo 'make install    DESTDIR= PREFIX=; also: uninstall, deb, deps, format, clean'

-include $(shell find $(O)/obj $(O)/skel -name '*.d' 2>/dev/null)
