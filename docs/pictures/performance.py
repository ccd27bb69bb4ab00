"""The tables of performance.md as pictures: every number is read from the page, a function a picture."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

PAGE = Path("../performance.md")  # Sphinx draws in the folder of the script
OURS = "TorchLinearRegressor()"
COLORS = {
    OURS: ("#009E73", "o"),
    "LinearRegression": ("#0072B2", "D"),
    'Ridge(solver="cholesky")': ("#56B4E9", "s"),
    'Ridge(solver="lsqr")': ("#CC79A7", "v"),
    "SGDRegressor": ("#D55E00", "P"),
    "skorch, nn.Linear": ("#E69F00", "^"),
    "DataLoader loop, nn.Linear": ("#7F7F7F", "X"),
}


def read_tables(section):
    """Return the tables of a section of the page, by their heading."""
    page = PAGE.read_text(encoding="utf-8")
    text = next(part for part in page.split("\n## ") if part.startswith(section))
    tables = {}
    for part in re.split(r"\n### ", text):
        rows = [line for line in part.splitlines() if line.startswith("|")]
        if rows:
            header, _, *body = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
            tables[part.partition("\n")[0]] = pd.DataFrame(body, columns=header)
    return tables


def untuned():
    """Return the tables of fits without tuning, a row for each peer, with its name in `peer`."""
    for table, rows in read_tables("Least squares without tuning").items():
        if "times ours" in rows:
            known = [next((name for name in COLORS if row.startswith(name)), None) for row in rows[""]]
            yield table, rows.assign(peer=known).dropna(subset="peer")


def dots(column, xlabel, title):
    """Draw a column of the tables without tuning: a row for each table, a mark for each peer."""
    tables = dict(untuned())
    _, ax = plt.subplots(figsize=(6.5, 0.32 * len(tables) + 1.8), layout="constrained")
    for row, rows in enumerate(tables.values()):
        for peer, value in zip(rows["peer"], pd.to_numeric(rows[column], errors="coerce"), strict=True):
            color, marker = COLORS[peer]
            ax.plot(value, row, marker, color=color, label=peer if row == 0 else None, markersize=7, alpha=0.9)
    ax.set_xscale("log")
    ax.set_yticks(range(len(tables)), tables)
    ax.invert_yaxis()
    ax.grid(alpha=0.25)
    ax.set(xlabel=xlabel, title=title)
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return ax


def draw_times():
    """Draw the time of each peer over ours."""
    ax = dots("times ours", "time over that of TorchLinearRegressor()", "Time: left of the line a peer is faster")
    ax.axvline(1, color=COLORS[OURS][0])


def draw_errors():
    """Draw the error of each peer."""
    dots("RMS error", "error of predictions (standard deviations of the target)", "Error: further left is better")


def bars(names, values, xlabel, title, highlight):
    """Draw a bar for each name, ours in a colour of its own, with its value at its end."""
    _, ax = plt.subplots(figsize=(6.5, 0.36 * len(names) + 1.1), layout="constrained")
    colors = [COLORS[OURS][0] if ours else "0.65" for ours in highlight]
    drawn = ax.barh(names, values, color=colors)
    ax.bar_label(drawn, [f"{value:,.4g}" for value in values], padding=3, fontsize=9)
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.set(xlabel=xlabel, title=title)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_steps():
    """Draw what a step of textbook mode takes."""
    (rows,) = read_tables("Textbook mini-batch SGD").values()
    rows = rows[pd.to_numeric(rows["µs a step"], errors="coerce").notna()]  # the ratios follow
    names, values = rows["contender"], pd.to_numeric(rows["µs a step"])
    bars(names, values, "microseconds a step of 10 rows", "Textbook mode", names.str.startswith("Torch"))


def draw_memory():
    """Draw the memory of a fit beyond that of the table."""
    (rows,) = read_tables("Memory").values()
    names = rows[""] + ", " + rows["X"].str.split(", ").str[-1]
    title = "Memory of a fit beside the table, 1e6×100"
    bars(names, pd.to_numeric(rows["% of X"]), "% of the table", title, names.str.startswith("Torch"))


def draw_lasso():
    """Draw the time of each lasso over that of scikit-learn's coordinate descent."""
    rows = read_tables("The lasso and the elastic net")["Fits"]
    rows = rows.assign(table=rows["table"] + ", " + rows["penalty"], times=pd.to_numeric(rows["times scikit-learn's"]))
    wide = rows.pivot(index="table", columns="contender", values="times").loc[rows["table"].unique()]
    colors = {"ours": COLORS[OURS][0], "celer": "#E69F00", "skglm": "#CC79A7"}
    _, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
    for (name, color), marker in zip(colors.items(), "o^s", strict=True):
        ax.plot(wide[name], wide.index, marker, color=color, label=name, markersize=7)
    ax.axvline(1, color="#0072B2", label="scikit-learn")
    ax.invert_yaxis()
    ax.grid(alpha=0.25)
    ax.set(xlabel="time over that of scikit-learn", title="One lasso: left of the line is faster than scikit-learn")
    ax.set_xlim(left=0)
    ax.legend(fontsize=8)
