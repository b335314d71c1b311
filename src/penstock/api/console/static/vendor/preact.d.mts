// Types of what the console uses of Preact; they are for checks, and are not served.
export type VNode = { readonly type: unknown; readonly props: Record<string, any> };
export declare class Component<Props = {}, State = {}> {
  constructor(props?: Props);
  props: Props & { children?: any };
  state: State;
  setState(change: Partial<State>): void;
  shouldComponentUpdate?(props: Props, state: State): boolean;
  render(props: Props, state: State): any;
}
export declare const Fragment: (props: { children?: any }) => any;
export declare function h(type: any, props: Record<string, any> | null, ...children: any[]): VNode;
export declare function render(content: any, parent: Element): void;
