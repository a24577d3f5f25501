/**
 * The Grafana dashboard, held against the types that Grafana publishes of what it loads. There is no Grafana to load it into: neither npm
 * nor Debian has one.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { checkout } from '../../../src/lab/trees.ts';

interface Place {
  readonly x: number;
  readonly y: number;
  readonly w: number;
  readonly h: number;
}

interface Dashboard {
  readonly templating: { readonly list: readonly { readonly name: string }[] };
  readonly panels: readonly {
    readonly id: number;
    readonly title: string;
    readonly gridPos: Place;
    readonly targets: readonly { readonly refId: string; readonly expr: string }[];
  }[];
}

const text = readFileSync(join(checkout, 'packaging/monitoring/grafana-dashboard.json'), 'utf8');
const dashboard = JSON.parse(text) as Dashboard;

/**
 * Grafana's own types leave a panel's options and queries open. Those of the three kinds of panel that are used are named here; the query
 * is what Grafana's Prometheus data source takes.
 */
const TYPES = `
import type { Dashboard, DataSourceRef, GraphFieldConfig, Panel } from '@grafana/schema';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { FieldConfig as Cell, Options as Table } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { Options as Series } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** JSON has the values of enumerations, and leaves out what has a default. */
type Json<T> = T extends string ? \`\${T}\` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
type Optional<T> = { [K in keyof T]?: Optional<T[K]> };
interface Query {
  refId: string; expr: string; datasource: DataSourceRef;
  legendFormat?: string; instant?: boolean; format?: 'time_series' | 'table' | 'heatmap';
}
type Fields<T> = Omit<NonNullable<Panel['fieldConfig']>, 'defaults'>
  & { defaults: Omit<NonNullable<Panel['fieldConfig']>['defaults'], 'custom'> & { custom?: Optional<T> } };
type PanelOf<Type, Options, Custom> = Omit<Panel, 'type' | 'options' | 'targets' | 'fieldConfig'>
  & { type: Type; options?: Optional<Options>; targets: Query[]; fieldConfig: Fields<Custom> };
type Panels = PanelOf<'stat', Stat, never> | PanelOf<'timeseries', Series, GraphFieldConfig> | PanelOf<'table', Table, Cell>;

export const dashboard: Json<Omit<Dashboard, 'panels'> & { panels: Panels[] }> = `;

/** What the compiler says of a dashboard. */
function mistakesOf(json: string): string[] {
  // Beside the other sources, so that the package is found; in memory alone.
  const file = join(checkout, 'test/package/monitoring/dashboard-in-memory.ts');
  const options: ts.CompilerOptions = {
    ...{ target: ts.ScriptTarget.ES2024, module: ts.ModuleKind.ESNext, noEmit: true, skipLibCheck: true },
    ...{ moduleResolution: ts.ModuleResolutionKind.Bundler, strict: true, types: [] },
  };
  const host = ts.createCompilerHost(options);
  host.fileExists = (name) => name === file || ts.sys.fileExists(name);
  host.readFile = (name) => (name === file ? `${TYPES}${json};` : ts.sys.readFile(name));
  return ts
    .getPreEmitDiagnostics(ts.createProgram([file], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

describe('the dashboard', function () {
  this.timeout(60_000);

  it("is what Grafana's types ask for", () => {
    assert.deepEqual(mistakesOf(text), []);
  });

  it('would not be with a mistake in it', () => {
    const mistakes: readonly (readonly [found: string, wrong: string])[] = [
      ['"colorMode": "background"', '"colorMode": "backdrop"'],
      ['"graphMode": "none"', '"graphMod": "none"'],
      ['"type": "timeseries"', '"type": "graph"'],
      ['"schemaVersion": 37', '"schema": 37'],
      ['"expr": "virtlockd_up', '"query": "virtlockd_up'],
      ['"showPoints": "never"', '"showPoints": "nowhere"'],
    ];
    for (const [found, wrong] of mistakes) {
      assert.ok(text.includes(found), found);
      assert.equal(mistakesOf(text.replace(found, wrong)).length, 1, wrong);
    }
  });

  it('has panels that do not overlap, each with its own number', () => {
    const { panels } = dashboard;
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    for (const [index, { title, gridPos: one, targets }] of panels.entries()) {
      // Grafana's grid has 24 columns.
      assert.ok(one.x >= 0 && one.x + one.w <= 24, title);
      assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length, title);
      for (const { title: other, gridPos: two } of panels.slice(index + 1)) {
        const overlap =
          one.x < two.x + two.w && two.x < one.x + one.w && one.y < two.y + two.h && two.y < one.y + one.h;
        assert.ok(!overlap, `${title} and ${other}`);
      }
    }
  });

  it('names variables that it has', () => {
    const known = new Set([...dashboard.templating.list.map(({ name }) => name), '__rate_interval', '__all']);
    for (const [, braced, plain] of text.matchAll(/\$(?:\{(\w+)\}|(\w+))/g))
      assert.ok(known.has(braced ?? plain ?? ''));
  });
});
