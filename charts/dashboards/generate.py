"""Writes charts/mailrelay/dashboards/mailrelay.json from panels.py, in Grafana's words.

generate.py            writes the file
generate.py --check    writes nothing; fails when the file is not what would be written
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from charts.dashboards.panels import GLANCE, ROWS, Panel, Query, View

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / "charts/mailrelay/dashboards/mailrelay.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
#: Grafana's grid is 24 wide.
GRID = 24


def dashboard_json() -> str:
    """The dashboard as the text of its file; the same panels give the same text."""
    board = (
        dashboard.Dashboard("mailrelay")
        .uid("mailrelay")
        .description("Mail gateways: what is accepted, queued, delivered, failed and refused.")
        .tags(["mailrelay", "mail", "smtp"])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_label_variable("namespace", "Namespace", "mailrelay_queue_recipients"))
        .with_variable(
            _label_variable("relay", "Relay", 'mailrelay_queue_recipients{namespace=~"$namespace"}')
        )
    )
    ids = count(1)
    for row in ROWS:
        board = board.with_row(dashboard.Row(row.title).id(next(ids)))
        # The figures share one line; all other panels stand two in a line.
        width, height = (GRID // len(row.panels), 4) if row is GLANCE else (GRID // 2, 8)
        for panel in row.panels:
            made = _figure(panel) if panel.view is View.FIGURE else _lines(panel)
            board = board.with_panel(made.id(next(ids)).span(width).height(height))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _label_variable(name: str, label: str, series: str) -> dashboard.QueryVariable:
    """A variable with this label's values, from a metric that every gateway always has."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({series}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _figure(panel: Panel) -> stat.Panel:
    made = (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(panel))
    )
    for number, query in enumerate(panel.queries):
        made = made.with_target(_target(number, query))
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .line_width(1)
        .fill_opacity(25 if panel.view is View.STACKED else 0)
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .legend(
            VizLegendOptions()
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.RIGHT)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .thresholds(_thresholds(panel))
    )
    if panel.view is View.STACKED:
        made = made.stacking(StackingConfig().mode(StackingMode.NORMAL))
    for number, query in enumerate(panel.queries):
        made = made.with_target(_target(number, query))
    return made


def _target(number: int, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(chr(ord("A") + number))
        .datasource(SOURCE)
        .expr(query.expr)
        .legend_format(query.legend or "__auto")
        .range()
    )


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if panel.warn is not None:
        steps.append(Threshold(value=panel.warn, color="yellow"))
    if panel.alarm is not None:
        steps.append(Threshold(value=panel.alarm, color="red"))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def main() -> int:
    """Write the file, or with --check compare it."""
    text = dashboard_json()
    if "--check" in sys.argv[1:]:
        if TARGET.is_file() and TARGET.read_text() == text:
            return 0
        print(
            f"{TARGET.name} is not what charts/dashboards makes: run `make chart`.", file=sys.stderr
        )
        return 1
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
