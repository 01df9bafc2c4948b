//! Enums of the words that keys accept. They are read ignoring case, and written in Marathon's
//! case.

/// Defines an enum with a fixed word for each variant.
macro_rules! names {
    ($($(#[$doc:meta])* $name:ident { $first:ident = $first_word:literal, $($variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $name {
            #[default]
            $first,
            $($variant,)*
        }

        impl $name {
            const ALL: &'static [(&'static str, $name)] =
                &[($first_word, $name::$first), $(($word, $name::$variant),)*];

            /// The word of the variant, as it is written.
            pub(super) fn word(self) -> &'static str {
                match self {
                    $name::$first => $first_word,
                    $($name::$variant => $word,)*
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;
                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("one of ", $first_word, $(", ", $word,)*))
                    }
                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        let is_it = |(known, _): &&(&str, $name)| known.eq_ignore_ascii_case(word);
                        match $name::ALL.iter().find(is_it) {
                            Some((_, name)) => Ok(*name),
                            None => Err(E::unknown_variant(word, &[$first_word, $($word,)*])),
                        }
                    }
                }
                deserializer.deserialize_str(Word)
            }
        }
    )*};
}

names! {
    /// The containerizer. Both run images; only MESOS accepts a container without one.
    Engine { Docker = "DOCKER", Mesos = "MESOS", }

    /// The deprecated names of network modes.
    DockerNetwork { Host = "HOST", Bridge = "BRIDGE", User = "USER", None = "NONE", }

    /// The network modes.
    Mode { Host = "host", Bridge = "container/bridge", Container = "container", }

    /// Whether a volume is writable.
    Access { ReadWrite = "RW", ReadOnly = "RO", }

    /// The transport protocol of a port.
    Protocol { Tcp = "tcp", Udp = "udp", Both = "udp,tcp", }

    /// The protocol of a check. Marathon performs checks from its master or, for `MESOS_…`, from
    /// the agent. Muster always performs them on the node of the instance.
    Check {
        Http = "HTTP",
        Https = "HTTPS",
        Tcp = "TCP",
        Command = "COMMAND",
        MesosTcp = "MESOS_TCP",
        MesosHttp = "MESOS_HTTP",
        MesosHttps = "MESOS_HTTPS",
    }

    /// The version of IP that checks use.
    IpProtocol { V4 = "IPv4", V6 = "IPv6", }

    /// Which instances are stopped first when an app is scaled down.
    KillSelection { Youngest = "YOUNGEST_FIRST", Oldest = "OLDEST_FIRST", }
}

impl Check {
    /// Whether Mesos performs the check in Marathon's architecture, instead of Marathon.
    pub(super) fn is_of_mesos(self) -> bool {
        matches!(self, Check::MesosTcp | Check::MesosHttp | Check::MesosHttps)
    }

    /// Whether the check sends an HTTP request, and does not only connect.
    pub(super) fn is_http(self) -> bool {
        matches!(self, Check::Http | Check::Https | Check::MesosHttp | Check::MesosHttps)
    }
}
