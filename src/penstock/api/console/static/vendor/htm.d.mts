// Types of htm; they are for checks, and are not served.
declare const htm: {
  bind<Result>(
    create: (type: any, props: Record<string, any> | null, ...children: any[]) => Result,
  ): (strings: TemplateStringsArray, ...values: any[]) => Result;
};
export default htm;
