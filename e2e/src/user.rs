//! Users of a story's own. An administrator impersonates them.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use crate::{
    plugin::{LABEL, make},
    world::World,
};

const GROUP: &str = "rbac.authorization.k8s.io";

impl World {
    /// A client of a user who has this ClusterRole in the world's namespace.
    pub async fn user_with(&self, name: &str, cluster_role: &str) -> Client {
        self.bind(name, "ClusterRole", cluster_role).await;
        self.user(name).await
    }

    /// A client of a user with these rules in the world's namespace.
    pub async fn user_of(&self, name: &str, rules: Value) -> Client {
        let role = json!({"metadata": {"name": name}, "rules": rules});
        let role: Role = serde_json::from_value(role).expect("a Role");
        self.create(&role).await;
        self.bind(name, "Role", name).await;
        self.user(name).await
    }

    /// A client of a user with these rules in all namespaces.
    pub async fn user_everywhere(&self, name: &str, rules: Value) -> Client {
        let user = self.named(name);
        let metadata = json!({"name": user, "labels": {LABEL: self.namespace}});
        let role = json!({"metadata": metadata, "rules": rules});
        make(Api::<ClusterRole>::all(self.client.clone()), role).await;
        let binding = json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": GROUP, "kind": "User", "name": user}]
        });
        make(Api::<ClusterRoleBinding>::all(self.client.clone()), binding).await;
        self.user(name).await
    }

    /// A client of a user without rights, except those of everybody, unless others are bound to it.
    pub async fn user(&self, name: &str) -> Client {
        let mut config = Config::infer().await.expect("a cluster");
        let header = "impersonate-user".parse().expect("a header");
        let user = self.named(name).parse().expect("the value of a header");
        config.headers.push((header, user));
        Client::try_from(config).expect("a client")
    }

    async fn bind(&self, name: &str, kind: &str, role: &str) {
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": GROUP, "kind": kind, "name": role},
            "subjects": [{"apiGroup": GROUP, "kind": "User", "name": self.named(name)}]
        });
        let binding: RoleBinding = serde_json::from_value(binding).expect("a RoleBinding");
        self.create(&binding).await;
    }
}
