"""A compiled Verilog-A model (OSDI) as a cell. Its C source stands in for what a Verilog-A compiler would make."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mdls_cosim.errors import SpiceError
from mdls_cosim.spice import Deck, NgspiceEngine

# I = g V + c V^3. The layout of the structures is the interface, OSDI 0.4; most of what is in it may stay zero.
SOURCE = r"""
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct { uint32_t a, b; } Pair;
typedef struct { Pair nodes; uint32_t react_offset, flags; } Entry;
typedef struct { char *name, *units, *residual_units; uint32_t offsets[4]; bool is_flow; } Node;
typedef struct { char **name; uint32_t aliases; char *description, *units; uint32_t flags, length; } Parameter;
typedef struct { void *parameters[4]; double time; double *solution, *state, *next; uint32_t flags; } Info;

typedef struct { uint32_t flags, errors; void *error; } Result;

typedef struct { double g, c; } Model;
typedef struct { double current, slope; double *matrix[4]; uint32_t net[2], collapsed, states; } Cell;

typedef struct {
  char *name;
  uint32_t nodes, terminals; Node *node;
  uint32_t entries; Entry *entry;
  uint32_t collapsible; Pair *collapse; uint32_t collapsed_offset;
  void *noise; uint32_t noises;
  uint32_t parameters, instance_parameters, variables; Parameter *parameter;
  uint32_t net_offset, matrix_offset, states, state_offset, step_offset, cell_size, model_size;
  void *(*access)(void *, void *, uint32_t, uint32_t);
  void (*setup_model)(void *, void *, void *, void *);
  void (*setup_cell)(void *, void *, void *, double, uint32_t, void *, void *);
  uint32_t (*evaluate)(void *, void *, const void *, const Info *);
  void (*noise_load)(void *, void *, double, double *);
  void (*residual[4])(void *, void *, double *);
  void (*rhs_dc)(void *, void *, double *, double *);
  void (*rhs_transient)(void *, void *, double *, double *, double);
  void (*jacobian)(void *, void *);
  void (*jacobian_react)(void *, void *, double);
  void (*jacobian_transient)(void *, void *, double);
  uint32_t (*given_model)(void *, uint32_t);
  uint32_t (*given_cell)(void *, uint32_t);
  void *rest[16];
} Descriptor;

static void *reach(void *cell, void *model, uint32_t id, uint32_t flags) {
  return id == 0 ? (void *)&((Model *)model)->g : id == 1 ? (void *)&((Model *)model)->c : NULL;
}
static void fine(void *result) { memset(result, 0, sizeof(Result)); }
static void setup_model(void *handle, void *model, void *simulator, void *result) { fine(result); }
static void setup_cell(void *h, void *cell, void *m, double t, uint32_t n, void *sim, void *result) { fine(result); }
static uint32_t evaluate(void *handle, void *cell_, const void *model_, const Info *info) {
  Cell *cell = cell_; const Model *model = model_;
  double v = info->solution[cell->net[0]] - info->solution[cell->net[1]];
  cell->current = model->g * v + model->c * v * v * v;
  cell->slope = model->g + 3 * model->c * v * v;
  return 0;
}
static void nothing(void *cell, void *model, double *to) {}
static void no_noise(void *cell, void *model, double frequency, double *density) {}
static void residual(void *cell_, void *model, double *to) {
  Cell *cell = cell_; to[cell->net[0]] += cell->current; to[cell->net[1]] -= cell->current;
}
static void rhs_dc(void *cell_, void *model, double *to, double *solution) {
  Cell *cell = cell_;
  double left = cell->slope * (solution[cell->net[0]] - solution[cell->net[1]]) - cell->current;
  to[cell->net[0]] += left; to[cell->net[1]] -= left;
}
static void rhs_transient(void *cell, void *model, double *to, double *solution, double alpha) {
  rhs_dc(cell, model, to, solution);
}
static void jacobian(void *cell_, void *model) {
  Cell *cell = cell_;
  *cell->matrix[0] += cell->slope; *cell->matrix[1] -= cell->slope;
  *cell->matrix[2] -= cell->slope; *cell->matrix[3] += cell->slope;
}
static void jacobian_react(void *cell, void *model, double alpha) {}
static void jacobian_transient(void *cell, void *model, double alpha) { jacobian(cell, model); }
static uint32_t given(void *of, uint32_t id) { return 1; }

#define NONE UINT32_MAX
#define NO_OFFSETS {NONE, NONE, NONE, NONE}
static Node nodes[] = {{"p", "V", "A", NO_OFFSETS, false}, {"n", "V", "A", NO_OFFSETS, false}};
static Entry entries[] = {{{0, 0}, NONE, 4}, {{0, 1}, NONE, 4}, {{1, 0}, NONE, 4}, {{1, 1}, NONE, 4}};
static char *names[] = {"g", "c"};
static Parameter parameters[] = {{&names[0], 0, "", "S", 0, 0}, {&names[1], 0, "", "", 0, 0}};

uint32_t OSDI_VERSION_MAJOR = 0, OSDI_VERSION_MINOR = 4, OSDI_NUM_DESCRIPTORS = 1;
uint32_t OSDI_DESCRIPTOR_SIZE = sizeof(Descriptor);
Descriptor OSDI_DESCRIPTORS[1] = {{
  .name = "cubic", .nodes = 2, .terminals = 2, .node = nodes, .entries = 4, .entry = entries,
  .collapsed_offset = offsetof(Cell, collapsed), .parameters = 2, .parameter = parameters,
  .net_offset = offsetof(Cell, net), .matrix_offset = offsetof(Cell, matrix), .state_offset = offsetof(Cell, states),
  .step_offset = NONE, .cell_size = sizeof(Cell), .model_size = sizeof(Model),
  .access = reach, .setup_model = setup_model, .setup_cell = setup_cell, .evaluate = evaluate,
  .noise_load = no_noise, .residual = {residual, nothing, nothing, nothing}, .rhs_dc = rhs_dc,
  .rhs_transient = rhs_transient, .jacobian = jacobian, .jacobian_react = jacobian_react,
  .jacobian_transient = jacobian_transient, .given_model = given, .given_cell = given,
}};
"""


@pytest.fixture
def compiled(tmp_path: Path) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc to compile the model")
    (tmp_path / "cubic.c").write_text(SOURCE)
    file = tmp_path / "cubic.osdi"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(file), str(tmp_path / "cubic.c")], check=True, timeout=60)
    return file


@pytest.mark.ngspice
def test_a_compiled_model_is_a_cell(engine: NgspiceEngine, compiled: Path, gives_the_known_current):
    if engine.info().solver != "klu":
        pytest.skip("this ngspice is too old to load compiled models")
    deck = Deck(
        "compiled cell",
        ("Vin in 0 0", "Ncell in sense cubiccell", "Vsense sense 0 0"),
        models=(".model cubiccell cubic g=1e-3 c=2e-3\n",),
        sources=("Vin",),
        probes=("i(vsense)",),
        balance=("vin", "vsense"),
        osdi=(str(compiled),),
    )
    values = np.array([[0.5], [-1.0], [2.0]])
    exact = 1e-3 * values[:, 0] + 2e-3 * values[:, 0] ** 3
    for _ in range(2):  # the file is loaded once, the circuit each time
        np.testing.assert_allclose(engine.run(deck, values).column("i(vsense)"), exact, rtol=1e-9)
        np.testing.assert_allclose(engine.run(deck, values[:1]).column("i(vsense)"), exact[:1], rtol=1e-9)
    gives_the_known_current(engine)
    # ngspice cannot load it anew: the old model must not answer for a new one.
    compiled.write_bytes(compiled.read_bytes() + b" ")
    with pytest.raises(SpiceError, match="has changed"):
        engine.run(deck, values)
    np.testing.assert_allclose(engine.run(deck, values).column("i(vsense)"), exact, rtol=1e-9)


@pytest.mark.ngspice
def test_a_deck_with_a_compiled_model_runs_alone(compiled: Path, tmp_path: Path):
    program = shutil.which("ngspice")
    if program is None:
        pytest.skip("there is no ngspice program, only the library")
    deck = Deck(
        "compiled cell",
        ("Vin in 0 0", "Ncell in 0 cubiccell"),
        models=(".model cubiccell cubic g=1e-3 c=2e-3\n",),
        sources=("Vin",),
        probes=("i(vin)",),
        osdi=(str(compiled),),
    )
    file = tmp_path / "cell.cir"
    file.write_text(deck.standalone(np.array([[2.0]])))
    done = subprocess.run([program, "-b", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert "i(vin) = -1.8" in done.stdout
