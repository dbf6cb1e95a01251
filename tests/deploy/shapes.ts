// What the dashboard and the objects of the Prometheus operator have to look like, by the types that Grafana and the
// operator's own definitions generate. Generated types name enums; JSON has their values.
import type { Dashboard, Panel, RowPanel } from "./node_modules/@grafana/schema/dist/types/raw/dashboard/x/types.gen";
import type * as Series from "./node_modules/@grafana/schema/dist/types/raw/composable/timeseries/panelcfg/x/types.gen";
import type * as Stat from "./node_modules/@grafana/schema/dist/types/raw/composable/stat/panelcfg/x/types.gen";
import type * as Heatmap from "./node_modules/@grafana/schema/dist/types/raw/composable/heatmap/panelcfg/x/types.gen";
import type * as States from "./node_modules/@grafana/schema/dist/types/raw/composable/statetimeline/panelcfg/x/types.gen";
export type { IServiceMonitor as Monitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
export type { IPrometheusRule as Rule } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule";

type Json<T> = T extends string ? `${T}` : T extends number ? number : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

/** A panel of one type: its own options, and its own part of the fields' configuration. */
type Typed<Type extends string, Options, Custom> = Omit<Json<Panel>, "type" | "options" | "fieldConfig"> & {
  type: Type;
  options: Partial<Json<Options>>;
  fieldConfig: {
    defaults: Omit<Json<Panel["fieldConfig"] & {}>["defaults"], "custom"> & { custom?: Partial<Json<Custom>> };
    overrides: (Json<Panel["fieldConfig"] & {}>["overrides"]);
  };
};

type AnyPanel =
  | Json<RowPanel>
  | Typed<"timeseries", Series.Options, Series.FieldConfig>
  | Typed<"stat", Stat.Options, {}>
  | Typed<"heatmap", Heatmap.Options, Heatmap.FieldConfig>
  | Typed<"state-timeline", States.Options, States.FieldConfig>;

/** What Grafana writes beside what its types tell: a query's text in variables and in annotations. */
type Variable = Json<(Dashboard["templating"] & {})["list"]> extends (infer V)[] | undefined ? V & { definition?: string } : never;
type Annotation = Json<(Dashboard["annotations"] & {})["list"]> extends (infer A)[] | undefined ? A & { expr: string; step: string; titleFormat: string; textFormat?: string } : never;

export type Board = Omit<Json<Dashboard>, "panels" | "templating" | "annotations"> & {
  panels: AnyPanel[];
  templating: { list: Variable[] };
  annotations: { list: Annotation[] };
};
