//! The command line: upstream's commands and flags, made from the table of settings. It gathers what the user gave
//! and hands it to `settings`; each command then prints something or runs the agent.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, value_parser};

use crate::manifest;
use crate::settings::{self, Machine, Sources, Weight};
use crate::status;
use crate::version::VERSION;

mod document;
mod drill;
mod flag;
mod operate;
mod plan;
mod validate;

/// What the program does, for the top of `--help`.
const ABOUT: &str = "kube-vip: virtual IP addresses for a Kubernetes control plane and its Services";

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return explain(&error),
    };
    match dispatch(&matches) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kube-vip: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Command {
    let extra = || Arg::new("extra").num_args(0..).hide(true);
    let leaf = |name: &'static str, about: &'static str| Command::new(name).about(about).arg(extra());
    let service = leaf("service", "Run the agent (older name of manager)")
        .arg(Arg::new("configMap").short('c').long("configMap").default_value("plndr").help("Not used"));
    let plan = leaf("plan", "Print what an agent would do, from its settings and a dump of the cluster")
        .arg(Arg::new("config").long("config").value_name("FILE").help("Settings; same as --config-file"))
        .arg(Arg::new("cluster").long("cluster").value_name("FILE").required(true).help("The dump (YAML)"))
        .after_help(plan::DUMP);
    let instance = || Arg::new("instance").long("instance").value_name("NAME").help("Only this agent");
    let status = Command::new("status")
        .about("Show what the agents of this node hold, without the Kubernetes API")
        .arg(Arg::new("part").value_name("services").value_parser(["services"]).help("The Services only"))
        .arg(output())
        .arg(instance());
    let explain = Command::new("explain")
        .about("Say what the agents of this node decided about a Service, with every reason on the way")
        .arg(Arg::new("service").required(true).value_name("NAMESPACE/NAME").help("The Service"))
        .arg(output())
        .arg(instance());
    let completion = Command::new("completion")
        .about("Print completions for a shell")
        .arg(Arg::new("shell").required(true).value_parser(value_parser!(clap_complete::Shell)));
    Command::new("kube-vip")
        .about(ABOUT)
        .after_help(document::after_help())
        .args(flag::arguments())
        .args_override_self(true)
        .next_line_help(true)
        .subcommand(leaf("manager", "Run the agent"))
        .subcommand(service)
        .subcommand(leaf(
            "validate",
            "Print the effective settings; exit code 1 if there is anything to warn about",
        ))
        .subcommand(plan)
        .subcommand(status)
        .subcommand(explain)
        .subcommands(operate::commands())
        .subcommand(drill::command())
        .subcommand(manifest::command())
        .subcommand(manifest::kubeadm_command())
        .subcommand(leaf("settings", "Print every setting that kube-vip knows, as Markdown"))
        .subcommand(leaf("sample", "Print this help"))
        .subcommand(completion)
        .subcommand(leaf("version", "Print the version"))
}

fn dispatch(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, inner)) = matches.subcommand() else { return Ok(print_help()) };
    warn_about_extra(inner);
    match name {
        "manager" | "service" => {
            let effective = settings::load(&sources(inner), &Machine::read())?;
            crate::run::manager(effective)?;
        }
        "validate" => return validate::run(&sources(inner)),
        "plan" => plan::run(inner, sources(inner))?,
        "status" => {
            let part = match inner.get_one::<String>("part") {
                Some(_) => status::Part::Services,
                None => status::Part::Whole,
            };
            status::show(part, wish(inner), &mut io::stdout())?;
        }
        "explain" => {
            let service = inner.get_one::<String>("service").map_or("", String::as_str);
            status::explain(service, wish(inner), &mut io::stdout())?;
        }
        "drain" | "undrain" | "handover" => operate::run(name, inner, &mut io::stdout())?,
        "drill" => drill::run(inner, &mut io::stdout())?,
        "manifest" | "kubeadm" => {
            let Some((name, leaf)) = inner.subcommand() else { return Ok(print_help_of(name)) };
            warn_about_extra(leaf);
            print(&manifest::run(name, leaf, &sources(leaf))?);
        }
        "settings" => print(&document::markdown()),
        "completion" => complete(inner),
        "version" => print(&version()),
        _ => return Ok(print_help()),
    }
    Ok(ExitCode::SUCCESS)
}

fn output() -> Arg {
    Arg::new("output")
        .short('o')
        .long("output")
        .default_value("table")
        .help("How to show it")
        .value_parser(value_parser!(status::Format))
}

/// Which agents the user asks, and how the answer is shown.
fn wish(matches: &ArgMatches) -> status::Wish<'_> {
    status::Wish {
        instance: matches.get_one::<String>("instance").map(String::as_str),
        format: matches.get_one("output").copied().unwrap_or_default(),
    }
}

/// What the user gave in the environment and by flags.
fn sources(matches: &ArgMatches) -> Sources {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Sources { environment, flags: flag::given(matches), ..Sources::default() }
}

fn version() -> String {
    format!("Kube-VIP Release Information\nVersion:  {}\nBuild:    {}\n", VERSION.number, VERSION.build)
}

fn complete(matches: &ArgMatches) {
    let shell = matches.get_one::<clap_complete::Shell>("shell").copied().expect("the argument is required");
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "kube-vip", &mut script);
    print(&String::from_utf8_lossy(&script));
}

fn print_help() -> ExitCode {
    print(&command().render_help().to_string());
    ExitCode::SUCCESS
}

fn print_help_of(name: &str) -> ExitCode {
    let mut root = command();
    root.build();
    let group = root.find_subcommand_mut(name).expect("the parser has just found it");
    print(&group.render_help().to_string());
    ExitCode::SUCCESS
}

/// Writes to standard output; a reader that went away is no error.
fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Upstream's parser takes `--arp false` as a switch and a word that nobody reads. So do we, aloud.
fn warn_about_extra(matches: &ArgMatches) {
    let Ok(Some(words)) = matches.try_get_many::<String>("extra") else { return };
    for word in words {
        eprintln!("kube-vip: warning: the argument {word:?} is ignored (switches are written --arp=false)");
    }
}

/// Writes warnings to standard error, for commands that print a result.
pub(crate) fn warn(warnings: &[settings::Warning]) {
    for warning in warnings.iter().filter(|warning| warning.weight == Weight::Warning) {
        eprintln!("kube-vip: warning: {warning}");
    }
}

/// One line about a command line that cannot be understood.
fn explain(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        print(&error.render().to_string());
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let first: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let line =
        flag::unknown(error).unwrap_or_else(|| first.join(" ").trim_start_matches("error: ").to_owned());
    eprintln!("kube-vip: error: {line}");
    ExitCode::FAILURE
}
